// A round with the Go client of the API under /v1, built once for each of its two publishers: whatever does not answer as
// the client's users count on it ends the program with a sentence that says what.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"
)

var (
	ctx    = context.Background()
	prefix = os.Getenv("NAME")
)

func main() {
	admin := connect("")
	status(admin)
	logIns(admin)
	secrets(admin)
	oldSecrets(admin)
	mounts(admin)
	policies(admin)
	tokens(admin)
	wrapping(admin)
	transit(admin)
	leases(admin)
	namespaces(admin)
	fmt.Println("done")
}

// ---- what is expected ----------------------------------------------------------------------------------------------

func fail(format string, values ...any) {
	fmt.Printf(format+"\n", values...)
	os.Exit(1)
}

func must(err error) {
	if err != nil {
		fail("failed: %v", err)
	}
}

func got[T any](value T, err error) T {
	must(err)
	return value
}

func equal(what string, value, expected any) {
	if !reflect.DeepEqual(value, expected) {
		fail("%s: %v, expected %v", what, value, expected)
	}
}

func truth(what string, holds bool) {
	if !holds {
		fail("does not hold: %s", what)
	}
}

// The status and the text that a client branches on.
func refused(what string, err error, status int, text string) {
	var response *ResponseError
	if !errors.As(err, &response) {
		fail("%s: %v, expected %d", what, err, status)
	}
	if response.StatusCode != status || !strings.Contains(strings.Join(response.Errors, "\n"), text) {
		fail("%s: %d %q, expected %d %q", what, response.StatusCode, response.Errors, status, text)
	}
}

func connect(token string) *Client {
	config := defaultConfig()
	must(config.Error)
	config.Address = os.Getenv("ADDRESS")
	config.MaxRetries = 0
	must(config.ConfigureTLS(&TLSConfig{CACert: os.Getenv("SERVERS")}))
	client := got(newClient(config))
	client.ClearNamespace()
	client.SetToken(token)
	return client
}

func write(client *Client, path string, data map[string]any) *Secret {
	return got(client.Logical().Write(path, data))
}

func keys(secret *Secret) []string {
	if secret == nil {
		return nil
	}
	var names []string
	for _, name := range secret.Data["keys"].([]any) {
		names = append(names, name.(string))
	}
	return names
}

// What the first renewal of a program's watcher gives.
func renewed(client *Client, secret *Secret) *Secret {
	watcher := got(client.NewLifetimeWatcher(&LifetimeWatcherInput{Secret: secret}))
	go watcher.Start()
	defer watcher.Stop()
	select {
	case renewal := <-watcher.RenewCh():
		return renewal.Secret
	case err := <-watcher.DoneCh():
		fail("the watcher gave up: %v", err)
	case <-time.After(30 * time.Second):
		fail("the watcher did not renew")
	}
	return nil
}

func status(client *Client) {
	health := got(client.Sys().Health())
	truth("it is initialised and not sealed", health.Initialized && !health.Sealed && !health.Standby)
	truth("it says which version it is", health.Version != "")
	seal := got(client.Sys().SealStatus())
	truth("seal status agrees", seal.Initialized && !seal.Sealed && seal.Type != "")
	truth("init status agrees", got(client.Sys().InitStatus()))
	got(client.Sys().Leader())
}
