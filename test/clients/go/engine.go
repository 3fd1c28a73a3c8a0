// Named keys, and credentials of a database.
package main

import (
	"encoding/base64"
	"os"
	"slices"
	"strings"
	"time"
)

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func transit(client *Client) {
	name := prefix + "-key"
	write(client, "transit/keys/"+name, map[string]any{"type": "aes256-gcm96"})
	sealed := write(client, "transit/encrypt/"+name, map[string]any{"plaintext": b64("hello")}).Data["ciphertext"].(string)
	truth("the form of a ciphertext", strings.HasPrefix(sealed, "vault:v1:"))
	got(client.Logical().Write("transit/keys/"+name+"/rotate", nil))
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
	got(client.Logical().Delete("transit/keys/" + name))
	gone, err := client.Logical().Read("transit/keys/" + name)
	truth("gone", err == nil && gone == nil)
	truth("random", write(client, "sys/tools/random/16", nil).Data["random_bytes"] != nil)
	equal("a hash", write(client, "sys/tools/hash/sha2-256", map[string]any{"input": b64("abc")}).Data["sum"],
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
}

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
	equal("renewed", got(client.Sys().Renew(taken.LeaseID, 7200)).LeaseDuration, 7200)
	looked := got(client.Sys().Lookup(taken.LeaseID))
	equal("looked at", looked.Data["id"], taken.LeaseID)
	must(client.Sys().Revoke(taken.LeaseID))
	_, err := client.Sys().Renew(taken.LeaseID, 0)
	refused("renewed after its end", err, 400, "lease")
	// What keeps a credential alive while it is used.
	watched := take()
	equal("renewed by itself", renewed(client, watched).LeaseID, watched.LeaseID)
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
	got(client.Logical().Delete("database/roles/" + prefix))
	got(client.Logical().Delete("database/config/" + prefix))
}
