// A round with the Go client of the API under /v1, built once for each of its two publishers: whatever does not answer as
// the client's users count on it ends the program with a sentence that says what.
package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
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

// ---- the round -----------------------------------------------------------------------------------------------------

func status(client *Client) {
	health := got(client.Sys().Health())
	truth("it is initialised and not sealed", health.Initialized && !health.Sealed && !health.Standby)
	truth("it says which version it is", health.Version != "")
	seal := got(client.Sys().SealStatus())
	truth("seal status agrees", seal.Initialized && !seal.Sealed && seal.Type != "")
	truth("init status agrees", got(client.Sys().InitStatus()))
	got(client.Sys().Leader())
}

// By each method; the first of them is who the rest is done as.
func logIns(admin *Client) {
	login := write(admin, "auth/userpass/login/admin", map[string]any{"password": os.Getenv("BULLA_PASSWORD")})
	admin.SetToken(login.Auth.ClientToken)
	equal("userpass: metadata", login.Auth.Metadata["username"], "admin")
	_, err := connect("").Logical().Write("auth/userpass/login/admin", map[string]any{"password": "another"})
	refused("userpass: a wrong password", err, 400, "invalid username or password")
	self := got(admin.Auth().Token().LookupSelf())
	truth("userpass: a ttl", got(self.TokenTTL()) > time.Minute)
	truth("userpass: renewable", got(self.TokenIsRenewable()))
	truth("userpass: an accessor", got(self.TokenAccessor()) == login.Auth.Accessor)

	role := "auth/approle/role/" + prefix
	write(admin, role, map[string]any{"token_policies": "reader", "token_ttl": "10m", "secret_id_num_uses": 2})
	id := got(admin.Logical().Read(role + "/role-id")).Data["role_id"]
	shown := write(admin, role+"/secret-id", map[string]any{"metadata": `{"run":"1"}`})
	approle := write(connect(""), "auth/approle/login", map[string]any{"role_id": id, "secret_id": shown.Data["secret_id"]})
	equal("approle: policies", approle.Auth.Policies, []string{"default", "reader"})
	equal("approle: metadata", approle.Auth.Metadata["role_name"], prefix)
	equal("approle: ttl", approle.Auth.LeaseDuration, 600)
	_, err = connect("").Logical().Write("auth/approle/login", map[string]any{"role_id": id, "secret_id": "x"})
	refused("approle: a wrong secret id", err, 400, "invalid role or secret ID")
	// A secret id under wrapping, as it is handed to a machine.
	admin.SetWrappingLookupFunc(func(operation, path string) string {
		if path == role+"/secret-id" {
			return "60s"
		}
		return ""
	})
	wrapped := write(admin, role+"/secret-id", nil)
	admin.SetWrappingLookupFunc(nil)
	unwrapped := got(connect(wrapped.WrapInfo.Token).Logical().Unwrap(""))
	truth("approle: a wrapped secret id", unwrapped.Data["secret_id"] != nil)

	write(admin, "auth/jwt/config", map[string]any{
		"jwt_validation_pubkeys": []string{os.Getenv("PUBLIC_KEY")},
		"bound_issuer":           os.Getenv("ISSUER"), "jwt_supported_algs": []string{"ES256"},
	})
	write(admin, "auth/jwt/role/"+prefix, map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"vault"}, "token_policies": "reader",
		"bound_subject": os.Getenv("SUBJECT"),
	})
	jwt := write(connect(""), "auth/jwt/login", map[string]any{"role": prefix, "jwt": os.Getenv("JWT")})
	equal("jwt: metadata", jwt.Auth.Metadata["role"], prefix)
	_, err = connect("").Logical().Write("auth/jwt/login", map[string]any{"role": prefix, "jwt": "e30.e30.e30"})
	refused("jwt: a wrong token", err, 400, "error validating token")

	write(admin, "auth/cert/certs/"+prefix, map[string]any{
		"certificate": got1(os.ReadFile(os.Getenv("CLIENTS"))), "allowed_dns_sans": "*.web.example", "token_policies": "reader",
	})
	config := defaultConfig()
	config.Address = os.Getenv("ADDRESS")
	must(config.ConfigureTLS(&TLSConfig{
		CACert: os.Getenv("SERVERS"), ClientCert: os.Getenv("CERT"), ClientKey: os.Getenv("KEY"),
	}))
	machine := got(newClient(config))
	cert := write(machine, "auth/cert/login", map[string]any{"name": prefix})
	equal("cert: metadata", cert.Auth.Metadata["cert_name"], prefix)
	_, err = connect("").Logical().Write("auth/cert/login", nil)
	refused("cert: without one", err, 400, "client certificate must be supplied")
}

func got1(bytes []byte, err error) string {
	must(err)
	return string(bytes)
}

func secrets(client *Client) {
	kv := client.KVv2("secret")
	at := prefix + "/app/db"
	first := got(kv.Put(ctx, at, map[string]any{"user": "u", "password": "p1"}))
	equal("the first version", first.VersionMetadata.Version, 1)
	got(kv.Put(ctx, at, map[string]any{"user": "u", "password": "p2"}, withCAS(1)))
	_, err := kv.Put(ctx, at, map[string]any{"user": "x"}, withCAS(1))
	refused("a put that is late", err, 400, "check-and-set parameter did not match the current version")
	_, err = kv.Put(ctx, at, map[string]any{"user": "x"}, withCAS(0))
	refused("a put that would be the first", err, 400, "check-and-set parameter did not match the current version")
	equal("the latest", got(kv.Get(ctx, at)).Data, map[string]any{"user": "u", "password": "p2"})
	equal("an older one", got(kv.GetVersion(ctx, at, 1)).Data["password"], "p1")
	for _, method := range []string{"patch", "rw"} {
		got(kv.Patch(ctx, at, map[string]any{"port": method}, withMerge(method)))
		equal("patched by "+method, got(kv.Get(ctx, at)).Data, map[string]any{"user": "u", "password": "p2", "port": method})
	}
	equal("versions", len(got(kv.GetVersionsAsList(ctx, at))), 4)

	must(kv.Delete(ctx, at))
	deleted := got(kv.Get(ctx, at))
	truth("a deleted one has no data and says when", deleted.Data == nil && !deleted.VersionMetadata.DeletionTime.IsZero())
	must(kv.Undelete(ctx, at, []int{4}))
	equal("undeleted", got(kv.Get(ctx, at)).Data["port"], "rw")
	must(kv.DeleteVersions(ctx, at, []int{1, 2}))
	must(kv.Destroy(ctx, at, []int{1}))
	versions := got(kv.GetVersionsAsList(ctx, at))
	truth("destroyed and deleted are told apart", versions[0].Destroyed && !versions[1].Destroyed && !versions[1].DeletionTime.IsZero())
	must(kv.Undelete(ctx, at, []int{2}))
	equal("rolled back", got(kv.Rollback(ctx, at, 2)).VersionMetadata.Version, 5)
	equal("to what it was", got(kv.Get(ctx, at)).Data["password"], "p2")

	must(kv.PutMetadata(ctx, at, KVMetadataPutInput{
		CustomMetadata: map[string]any{"owner": "team"}, MaxVersions: 7, DeleteVersionAfter: 3 * time.Hour, CASRequired: true,
	}))
	_, err = kv.Put(ctx, at, map[string]any{"user": "x"})
	refused("a put without cas", err, 400, "check-and-set parameter required for this call")
	no := false
	must(kv.PatchMetadata(ctx, at, KVMetadataPatchInput{CustomMetadata: map[string]any{"stage": "prod"}, CASRequired: &no}))
	metadata := got(kv.GetMetadata(ctx, at))
	equal("custom metadata", metadata.CustomMetadata, map[string]any{"owner": "team", "stage": "prod"})
	equal("the other settings", []any{metadata.MaxVersions, metadata.DeleteVersionAfter, metadata.CASRequired, metadata.CurrentVersion},
		[]any{7, 3 * time.Hour, false, 5})

	equal("a folder", keys(got(client.Logical().List("secret/metadata/"+prefix))), []string{"app/"})
	equal("a list", keys(got(client.Logical().List("secret/metadata/"+prefix+"/app/"))), []string{"db"})
	nothing, err := client.Logical().List("secret/metadata/" + prefix + "/none")
	truth("a list of nothing is nothing", err == nil && nothing == nil)
	_, err = kv.Get(ctx, prefix+"/none")
	truth("what is not there is known as that", errors.Is(err, errNotFound))
	must(kv.DeleteMetadata(ctx, at))
	_, err = kv.Get(ctx, at)
	truth("and so is what is gone", errors.Is(err, errNotFound))
	big := write(client, "secret/data/"+prefix+"/big", map[string]any{"data": map[string]any{"n": 12345678901234567}})
	equal("a number", fmt.Sprint(big.Data["version"]), "1")
	data := got(client.Logical().Read("secret/data/" + prefix + "/big")).Data["data"].(map[string]any)
	equal("beyond 2^53", fmt.Sprint(data["n"]), "12345678901234567")
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

func oldSecrets(client *Client) {
	mount := prefix + "-old"
	must(client.Sys().Mount(mount, &MountInput{Type: "kv", Options: map[string]string{"version": "1"}}))
	kv := client.KVv1(mount)
	must(kv.Put(ctx, "a/b", map[string]any{"x": "y"}))
	equal("version 1", got(kv.Get(ctx, "a/b")).Data, map[string]any{"x": "y"})
	equal("its list", keys(got(client.Logical().List(mount))), []string{"a/"})
	must(kv.Delete(ctx, "a/b"))
	_, err := kv.Get(ctx, "a/b")
	truth("what is gone is not found", errors.Is(err, errNotFound))
	must(client.Sys().Unmount(mount))
}

func mounts(client *Client) {
	path := prefix + "-kv"
	must(client.Sys().Mount(path, &MountInput{Type: "kv-v2", Description: "first"}))
	listed := got(client.Sys().ListMounts())
	equal("a mount", []any{listed[path+"/"].Type, listed[path+"/"].Options["version"]}, []any{"kv", "2"})
	truth("the engines of fixed places", listed["transit/"] != nil && listed["database/"] != nil && listed["sys/"] != nil)
	description := "second"
	must(client.Sys().TuneMount(path, MountConfigInput{Description: &description}))
	equal("tuned", got(client.Sys().ListMounts())[path+"/"].Description, "second")
	equal("the lease ttl", got(client.Sys().MountConfig(path)).DefaultLeaseTTL, 2764800)
	refused("a mount that is there", client.Sys().Mount(path, &MountInput{Type: "kv"}), 400, "path is already in use at "+path+"/")
	refused("an engine that is not", client.Sys().Mount(prefix+"-aws", &MountInput{Type: "aws"}), 400, "plugin not found in the catalog")
	must(client.Sys().Unmount(path))
	methods := got(client.Sys().ListAuth())
	for _, method := range []string{"token/", "userpass/", "approle/", "jwt/", "cert/"} {
		truth("the method "+method, methods[method] != nil)
	}
	preflight := got(client.Logical().Read("sys/internal/ui/mounts/secret/x"))
	equal("what every command asks first", []any{preflight.Data["path"], preflight.Data["type"]}, []any{"secret/", "kv"})
	truth("what a user interface asks", got(client.Logical().Read("sys/internal/ui/resultant-acl")).Data["root"] != nil)
}

func policies(client *Client) {
	name := prefix + "-policy"
	text := `path "secret/data/` + prefix + `/shared/*" { capabilities = ["read"] }
path "secret/metadata/` + prefix + `/shared/*" { capabilities = ["list"] }
path "secret/data/` + prefix + `/shared/hidden" { capabilities = ["deny"] }`
	must(client.Sys().PutPolicy(name, text))
	equal("its text", got(client.Sys().GetPolicy(name)), text)
	truth("it is listed", slices.Contains(got(client.Sys().ListPolicies()), name))
	kv := client.KVv2("secret")
	got(kv.Put(ctx, prefix+"/shared/open", map[string]any{"a": "b"}))
	got(kv.Put(ctx, prefix+"/shared/hidden", map[string]any{"a": "b"}))
	child := got(client.Auth().Token().Create(&TokenCreateRequest{Policies: []string{name}, TTL: "5m"}))
	reader := connect(child.Auth.ClientToken)
	equal("what it may read", got(reader.KVv2("secret").Get(ctx, prefix+"/shared/open")).Data["a"], "b")
	_, err := reader.KVv2("secret").Get(ctx, prefix+"/shared/hidden")
	refused("what is denied", err, 403, "permission denied")
	_, err = reader.KVv2("secret").Put(ctx, prefix+"/shared/open", map[string]any{})
	refused("what it may not write", err, 403, "permission denied")
	_, err = reader.Logical().Read("sys/policies/acl/" + name)
	refused("policies", err, 403, "permission denied")
	path := "secret/data/" + prefix + "/shared/open"
	equal("its capabilities", got(reader.Sys().CapabilitiesSelf(path)), []string{"read"})
	equal("asked by another", got(client.Sys().Capabilities(child.Auth.ClientToken, path)), []string{"read"})
	refused("HCL that is none", client.Sys().PutPolicy(name, "path {"), 400, "failed to parse policy")
	must(client.Sys().DeletePolicy(name))
	gone := got(client.Sys().GetPolicy(name))
	equal("what is gone", gone, "")
}

func tokens(client *Client) {
	token := client.Auth().Token()
	made := got(token.Create(&TokenCreateRequest{
		Policies: []string{"reader"}, TTL: "1h", DisplayName: prefix, Metadata: map[string]string{"a": "b"}, NumUses: 0,
	}))
	equal("its policies", made.Auth.Policies, []string{"default", "reader"})
	looked := got(token.Lookup(made.Auth.ClientToken))
	equal("its metadata", looked.Data["meta"].(map[string]any)["a"], "b")
	by := got(token.LookupAccessor(made.Auth.Accessor))
	equal("by its accessor it is not shown", by.Data["id"], "")
	own := connect(made.Auth.ClientToken)
	equal("renewed", got(own.Auth().Token().RenewSelf(1200)).Auth.LeaseDuration, 1200)
	equal("renewed by another", got(token.RenewAccessor(made.Auth.Accessor, 1800)).Auth.LeaseDuration, 1800)
	parent := got(token.Create(&TokenCreateRequest{TTL: "1h"}))
	child := got(connect(parent.Auth.ClientToken).Auth().Token().Create(&TokenCreateRequest{TTL: "10m"}))
	must(token.RevokeAccessor(made.Auth.Accessor))
	must(token.RevokeTree(parent.Auth.ClientToken))
	for _, ended := range []string{made.Auth.ClientToken, parent.Auth.ClientToken, child.Auth.ClientToken} {
		_, err := connect(ended).Auth().Token().LookupSelf()
		refused("a token that has ended", err, 403, "permission denied")
	}
	orphan := got(token.CreateOrphan(&TokenCreateRequest{Policies: []string{"reader"}, TTL: "10m"}))
	truth("an orphan", orphan.Auth.Orphan)
	must(connect(orphan.Auth.ClientToken).Auth().Token().RevokeSelf(""))
	few := got(token.Create(&TokenCreateRequest{NumUses: 1, TTL: "10m"}))
	got(connect(few.Auth.ClientToken).Auth().Token().LookupSelf())
	_, err := connect(few.Auth.ClientToken).Auth().Token().LookupSelf()
	refused("a token without uses left", err, 403, "permission denied")
	_, err = token.Lookup("hvs.none")
	refused("a token that never was", err, 403, "bad token")

	// What keeps the token of every long-running program alive.
	short := got(token.Create(&TokenCreateRequest{TTL: "6s", Policies: []string{"reader"}}))
	watched := connect(short.Auth.ClientToken)
	watcher := got(watched.NewLifetimeWatcher(&LifetimeWatcherInput{Secret: short}))
	go watcher.Start()
	select {
	case renewal := <-watcher.RenewCh():
		truth("a renewal", renewal.Secret.Auth.LeaseDuration > 0)
	case err := <-watcher.DoneCh():
		fail("the watcher gave up: %v", err)
	case <-time.After(30 * time.Second):
		fail("the watcher did not renew")
	}
	watcher.Stop()
}

func wrapping(client *Client) {
	at := prefix + "/wrapped"
	got(client.KVv2("secret").Put(ctx, at, map[string]any{"a": "b"}))
	client.SetWrappingLookupFunc(func(operation, path string) string { return "1m" })
	wrapped := got(client.Logical().Read("secret/data/" + at))
	token := got(client.Auth().Token().Create(&TokenCreateRequest{TTL: "10m"}))
	client.SetWrappingLookupFunc(nil)
	equal("how long", wrapped.WrapInfo.TTL, 60)
	equal("what was asked", wrapped.WrapInfo.CreationPath, "secret/data/"+at)
	looked := write(client, "sys/wrapping/lookup", map[string]any{"token": wrapped.WrapInfo.Token})
	equal("looked at", looked.Data["creation_path"], "secret/data/"+at)
	opened := got(client.Logical().Unwrap(wrapped.WrapInfo.Token))
	equal("unwrapped", opened.Data["data"], map[string]any{"a": "b"})
	_, err := client.Logical().Unwrap(wrapped.WrapInfo.Token)
	refused("unwrapped again", err, 400, "wrapping token is not valid or does not exist")
	truth("the accessor of a wrapped token", token.WrapInfo.WrappedAccessor != "")
	inner := got(connect(token.WrapInfo.Token).Logical().Unwrap(""))
	got(connect(inner.Auth.ClientToken).Auth().Token().LookupSelf())
	client.SetWrappingLookupFunc(func(operation, path string) string { return "1m" })
	some := write(client, "sys/wrapping/wrap", map[string]any{"x": "y"})
	client.SetWrappingLookupFunc(nil)
	again := write(client, "sys/wrapping/rewrap", map[string]any{"token": some.WrapInfo.Token})
	equal("rewrapped", got(client.Logical().Unwrap(again.WrapInfo.Token)).Data, map[string]any{"x": "y"})
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func transit(client *Client) {
	name := prefix + "-key"
	write(client, "transit/keys/"+name, map[string]any{"type": "aes256-gcm96"})
	sealed := write(client, "transit/encrypt/"+name, map[string]any{"plaintext": b64("hello")}).Data["ciphertext"].(string)
	truth("the form of a ciphertext", strings.HasPrefix(sealed, "vault:v1:"))
	must1(client.Logical().Write("transit/keys/"+name+"/rotate", nil))
	rewrapped := write(client, "transit/rewrap/"+name, map[string]any{"ciphertext": sealed}).Data["ciphertext"].(string)
	truth("rewrapped", strings.HasPrefix(rewrapped, "vault:v2:"))
	for _, text := range []string{sealed, rewrapped} {
		equal("opened", write(client, "transit/decrypt/"+name, map[string]any{"ciphertext": text}).Data["plaintext"], b64("hello"))
	}
	batch := write(client, "transit/encrypt/"+name, map[string]any{"batch_input": []map[string]any{
		{"plaintext": b64("a"), "reference": "1"}, {"plaintext": b64("b")},
	}}).Data["batch_results"].([]any)
	equal("a batch", len(batch), 2)
	write(client, "transit/keys/"+name+"/config", map[string]any{"min_decryption_version": 2, "deletion_allowed": true})
	_, err := client.Logical().Write("transit/decrypt/"+name, map[string]any{"ciphertext": sealed})
	refused("a version that is too old", err, 400, "ciphertext or signature version is disallowed by policy (too old)")
	truth("a data key", write(client, "transit/datakey/plaintext/"+name, nil).Data["plaintext"] != nil)
	hmac := write(client, "transit/hmac/"+name, map[string]any{"input": b64("x")}).Data["hmac"]
	equal("an HMAC", write(client, "transit/verify/"+name, map[string]any{"input": b64("x"), "hmac": hmac}).Data["valid"], true)
	for _, kind := range []string{"ed25519", "ecdsa-p256", "rsa-2048"} {
		signer := name + "-" + kind
		write(client, "transit/keys/"+signer, map[string]any{"type": kind})
		signature := write(client, "transit/sign/"+signer, map[string]any{"input": b64("x")}).Data["signature"]
		verify := map[string]any{"input": b64("x"), "signature": signature}
		equal(kind, write(client, "transit/verify/"+signer, verify).Data["valid"], true)
		verify["input"] = b64("y")
		equal(kind+" of another text", write(client, "transit/verify/"+signer, verify).Data["valid"], false)
	}
	truth("listed", slices.Contains(keys(got(client.Logical().List("transit/keys"))), name))
	must1(client.Logical().Delete("transit/keys/" + name))
	gone, err := client.Logical().Read("transit/keys/" + name)
	truth("gone", err == nil && gone == nil)
	truth("random", write(client, "sys/tools/random/16", nil).Data["random_bytes"] != nil)
	equal("a hash", write(client, "sys/tools/hash/sha2-256", map[string]any{"input": b64("abc")}).Data["sum"],
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
}

func must1(_ *Secret, err error) { must(err) }

func leases(client *Client) {
	url, user, password := os.Getenv("TARGET_URL"), os.Getenv("TARGET_USER"), os.Getenv("TARGET_PASSWORD")
	write(client, "database/config/"+prefix, map[string]any{
		"plugin_name": "postgresql-database-plugin", "connection_url": url, "username": user, "password": password,
		"allowed_roles": prefix,
	})
	write(client, "database/roles/"+prefix, map[string]any{
		"db_name": prefix, "default_ttl": "1h", "max_ttl": "24h",
		"creation_statements": `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';`,
	})
	take := func() *Secret { return got(client.Logical().Read("database/creds/" + prefix)) }
	taken := take()
	truth("a credential", taken.Data["username"] != "" && taken.Data["password"] != "")
	equal("its lease", []any{taken.Renewable, taken.LeaseDuration}, []any{true, 3600})
	renewed := got(client.Sys().Renew(taken.LeaseID, 7200))
	equal("renewed", renewed.LeaseDuration, 7200)
	looked := got(client.Sys().Lookup(taken.LeaseID))
	equal("looked at", looked.Data["id"], taken.LeaseID)
	must(client.Sys().Revoke(taken.LeaseID))
	_, err := client.Sys().Renew(taken.LeaseID, 0)
	refused("renewed after its end", err, 400, "lease")
	// What keeps a credential alive while it is used.
	watched := take()
	watcher := got(client.NewLifetimeWatcher(&LifetimeWatcherInput{Secret: watched}))
	go watcher.Start()
	select {
	case renewal := <-watcher.RenewCh():
		equal("renewed by itself", renewal.Secret.LeaseID, watched.LeaseID)
	case err := <-watcher.DoneCh():
		fail("the watcher gave up: %v", err)
	case <-time.After(30 * time.Second):
		fail("the watcher did not renew")
	}
	watcher.Stop()
	take()
	must(client.Sys().RevokePrefix("database/creds/" + prefix))
	for range 100 {
		left := got(client.Logical().List("sys/leases/lookup/database/creds/" + prefix))
		if left == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	truth("all that was taken there has ended", got(client.Logical().List("sys/leases/lookup/database/creds/"+prefix)) == nil)
	must1(client.Logical().Delete("database/roles/" + prefix))
	must1(client.Logical().Delete("database/config/" + prefix))
}

func namespaces(client *Client) {
	at := prefix + "/app"
	got(client.KVv2("secret").Put(ctx, at, map[string]any{"a": "b"}))
	home := client.WithNamespace("default")
	equal("a tenant by its name", got(home.KVv2("secret").Get(ctx, at)).Data["a"], "b")
	_, err := client.WithNamespace("no-such-tenant").KVv2("secret").Put(ctx, at, map[string]any{"a": "c"})
	refused("another one", err, 404, "no handler for route")
	_, err = connect("").WithNamespace("no-such-tenant").Logical().Write("auth/userpass/login/admin",
		map[string]any{"password": os.Getenv("BULLA_PASSWORD")})
	refused("a login there", err, 400, "invalid username or password")
	must(client.Auth().Token().RevokeSelf(""))
	_, err = client.Auth().Token().LookupSelf()
	refused("after the end", err, 403, "permission denied")
}
