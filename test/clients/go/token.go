// Policies, tokens, wrapping and namespaces.
package main

import (
	"os"
	"slices"
)

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
	roles := "auth/token/roles/" + prefix
	got(client.Logical().Write(roles, map[string]any{
		"allowed_policies": []string{"reader"}, "orphan": true, "token_period": "10m", "token_explicit_max_ttl": "30m",
	}))
	byRole := got(token.CreateWithRole(&TokenCreateRequest{DisplayName: prefix}, prefix))
	truth("by a role, an orphan", byRole.Auth.Orphan)
	equal("by a role, its policies", byRole.Auth.Policies, []string{"default", "reader"})
	equal("by a role, its period", byRole.Auth.LeaseDuration, 600)
	_, err = token.CreateWithRole(&TokenCreateRequest{Policies: []string{"admin"}}, prefix)
	refused("by a role, another policy", err, 400, "must be subset of the role's allowed policies")
	got(client.Logical().Delete(roles))
	_, err = connect(byRole.Auth.ClientToken).Auth().Token().RenewSelf(60)
	refused("renewed without its role", err, 400, "original token role could not be found")
	_, err = token.CreateWithRole(&TokenCreateRequest{}, prefix)
	refused("by a role that is gone", err, 400, "unknown role")
	_, err = token.Lookup("hvs.none")
	refused("a token that never was", err, 403, "bad token")

	// What keeps the token of every long-running program alive.
	short := got(token.Create(&TokenCreateRequest{TTL: "6s", Policies: []string{"reader"}}))
	watched := connect(short.Auth.ClientToken)
	truth("a renewal", renewed(watched, short).Auth.LeaseDuration > 0)
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
