"""How hvac logs in by each method: prints each step, and ends at the first that is not as it should be."""
import os
import hvac
from hvac import exceptions
from steps import refused, step

env = os.environ
name = env["NAME"]

def connect(token=None, cert=None):
    return hvac.Client(url=env["VAULT_ADDR"], token=token, verify=env["SERVERS"], cert=cert)

admin = connect()
admin.auth.userpass.login(username=env["BULLA_USER"], password=env["BULLA_PASSWORD"])
step("userpass", admin.is_authenticated())
step("userpass refused", refused(exceptions.InvalidRequest, lambda: connect().auth.userpass.login(username="admin", password="not this one")) is not None)

approle = admin.auth.approle
approle.create_or_update_approle(role_name=name, token_policies=["reader"], token_ttl="10m", bind_secret_id=True)
step("approle read", approle.read_role(role_name=name)["data"]["token_ttl"] == 600)
step("approle list", name in approle.list_roles()["data"]["keys"])
role_id = approle.read_role_id(role_name=name)["data"]["role_id"]
made = approle.generate_secret_id(role_name=name, metadata={"run": "1"})["data"]
step("secret ids", approle.list_secret_id_accessors(role_name=name)["data"]["keys"] == [made["secret_id_accessor"]])
step("secret id", approle.read_secret_id(role_name=name, secret_id=made["secret_id"])["data"]["metadata"] == {"run": "1"})
machine = connect()
login = machine.auth.approle.login(role_id=role_id, secret_id=made["secret_id"])
step("approle", login["auth"]["metadata"] == {"role_name": name, "run": "1"} and machine.is_authenticated())
step("and is refused what its policy does not grant", refused(exceptions.Forbidden, lambda: machine.write("secret/data/x", data={})) is not None)
approle.destroy_secret_id(role_name=name, secret_id=made["secret_id"])
step("ended with its secret id", machine.is_authenticated() is False)
gone = refused(exceptions.InvalidRequest, lambda: connect().auth.approle.login(role_id=role_id, secret_id=made["secret_id"]))
step("approle refused", "invalid role or secret ID" in str(gone))
step("custom secret ids are refused", refused(exceptions.InvalidRequest, lambda: approle.create_custom_secret_id(role_name=name, secret_id="chosen")) is not None)

jwt = admin.auth.jwt
jwt.configure(jwt_validation_pubkeys=[env["PUBLIC_KEY"]], bound_issuer=env["ISSUER"], jwt_supported_algs=["ES256"])
jwt.create_role(name=name, role_type="jwt", user_claim="sub", bound_audiences=["vault"], bound_subject="repo:" + name, allowed_redirect_uris=[], token_policies=["reader"])
step("jwt role", jwt.read_role(name=name)["data"]["bound_subject"] == "repo:" + name)
workload = connect()
login = workload.auth.jwt.jwt_login(role=name, jwt=env["JWT"])
workload.token = login["auth"]["client_token"]
step("jwt", workload.is_authenticated() and login["auth"]["metadata"] == {"role": name})
step("jwt refused", refused(exceptions.InvalidRequest, lambda: connect().auth.jwt.jwt_login(role=name, jwt="no.such.token")) is not None)

if hasattr(admin.auth, "cert"):
    admin.write("auth/cert/certs/" + name, certificate=open(env["CLIENTS"]).read(), allowed_dns_sans=["*.web.example"], token_policies=["reader"])
    own = (env["CERT"], env["KEY"])
    client = connect(cert=own)
    login = client.auth.cert.login(name=name, cert_pem=own[0], key_pem=own[1])
    client.token = login["auth"]["client_token"]
    step("cert", login["auth"]["metadata"]["cert_name"] == name and client.is_authenticated())
    step("and is bound to it", connect(token=client.token).is_authenticated() is False)
print("done")
