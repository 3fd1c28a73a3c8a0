// Logging in by each method.
package main

import (
	"os"
	"time"
)

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
		"certificate": string(got(os.ReadFile(os.Getenv("CLIENTS")))), "allowed_dns_sans": "*.web.example", "token_policies": "reader",
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
