"""What hvac does against the server of a test: prints each step, and ends at the first that is not as it should be."""
import base64, inspect, os
import hvac
from hvac import exceptions
from steps import refused, step

address, username, password = os.environ["VAULT_ADDR"], os.environ["BULLA_USER"], os.environ["BULLA_PASSWORD"]
name = os.environ["NAME"]
client = hvac.Client(url=address)
HELLO, MESSAGE = (base64.b64encode(text).decode() for text in (b"hello", b"m"))

client.auth.userpass.login(username=username, password=password)
step("userpass login", client.is_authenticated())
step("health", client.sys.read_health_status(method="GET")["initialized"] and client.sys.read_health_status().status_code == 200)
step("seal status", client.sys.is_sealed() is False and client.sys.is_initialized())

kv = client.secrets.kv.v2
# Older clients read a deleted version as any other that is not there.
newer = "raise_on_deleted_version" in inspect.signature(kv.read_secret_version).parameters
RAISE = {"raise_on_deleted_version": True} if newer else {}
DELETED = {"data": {"metadata": {"deletion_time": "not told by an older client"}}}
written = kv.create_or_update_secret(path=name + "/app", secret={"n": 12345678901234567890, "t": "text"}, cas=0)
step("write with cas 0", written["data"]["version"] == 1)
step("cas mismatch", refused(exceptions.InvalidRequest, lambda: kv.create_or_update_secret(path=name + "/app", secret={}, cas=0)) is not None)
step("read", kv.read_secret_version(path=name + "/app", **RAISE)["data"]["data"] == {"n": 12345678901234567890, "t": "text"})
kv.patch(path=name + "/app", secret={"m": 1})
step("patch by read and write", kv.read_secret_version(path=name + "/app", **RAISE)["data"]["data"]["m"] == 1)
step("read of a version", "m" not in kv.read_secret_version(path=name + "/app", version=1, **RAISE)["data"]["data"])
step("list", kv.list_secrets(path=name)["data"]["keys"] == ["app"])
step("list of the root", name + "/" in kv.list_secrets(path="")["data"]["keys"])
client.write("secret/metadata/" + name + "/app", custom_metadata={"owner": "py"}, max_versions=5)
step("metadata", kv.read_secret_metadata(path=name + "/app")["data"]["custom_metadata"] == {"owner": "py"})
kv.delete_latest_version_of_secret(path=name + "/app")
gone = refused(exceptions.InvalidPath, lambda: kv.read_secret_version(path=name + "/app", **RAISE))
step("deleted is InvalidPath with its metadata", gone is not None and getattr(gone, "json", DELETED)["data"]["metadata"]["deletion_time"] != "")
newer and step("deleted is readable as deleted", kv.read_secret_version(path=name + "/app", raise_on_deleted_version=False)["data"]["data"] is None)
kv.undelete_secret_versions(path=name + "/app", versions=[2])
step("undelete", kv.read_secret_version(path=name + "/app", **RAISE)["data"]["metadata"]["version"] == 2)
kv.destroy_secret_versions(path=name + "/app", versions=[1])
step("destroy", kv.read_secret_metadata(path=name + "/app")["data"]["versions"]["1"]["destroyed"] is True)
kv.delete_metadata_and_all_versions(path=name + "/app")
step("gone", refused(exceptions.InvalidPath, lambda: kv.read_secret_metadata(path=name + "/app")) is not None)
kv.configure(max_versions=9)
step("configuration", kv.read_configuration()["data"]["max_versions"] == 9)

client.sys.enable_secrets_engine("kv", path=name + "1", options={"version": "1"})
v1 = client.secrets.kv.v1
v1.create_or_update_secret(path="a/b", secret={"x": "y"}, mount_point=name + "1")
step("kv v1", v1.read_secret(path="a/b", mount_point=name + "1")["data"] == {"x": "y"} and v1.list_secrets(path="a", mount_point=name + "1")["data"]["keys"] == ["b"])
v1.delete_secret(path="a/b", mount_point=name + "1")
step("mounts", name + "1/" in client.sys.list_mounted_secrets_engines()["data"])
client.sys.disable_secrets_engine(name + "1")

client.sys.create_or_update_policy(name=name + "-read", policy={"path": {"secret/data/" + name + "/*": {"capabilities": ["read"]}}})
step("policy as JSON text", "secret/data/" + name + "/*" in client.sys.read_policy(name + "-read")["data"]["rules"])
child = client.auth.token.create(policies=[name + "-read"], ttl="10m")["auth"]
reader = hvac.Client(url=address, token=child["client_token"])
kv.create_or_update_secret(path=name + "/x", secret={"a": "b"})
step("a child reads", reader.secrets.kv.v2.read_secret_version(path=name + "/x", **RAISE)["data"]["data"] == {"a": "b"})
step("and is refused", refused(exceptions.Forbidden, lambda: reader.secrets.kv.v2.create_or_update_secret(path=name + "/x", secret={})) is not None)
step("capabilities", reader.sys.get_capabilities(paths=["secret/data/" + name + "/x"])["data"]["secret/data/" + name + "/x"] == ["read"])
step("renew", reader.auth.token.renew_self()["auth"]["client_token"] == child["client_token"])
step("lookup by accessor", client.auth.token.lookup_accessor(child["accessor"])["data"]["policies"] == ["default", name + "-read"])
client.auth.token.revoke_accessor(child["accessor"])
step("revoked", reader.is_authenticated() is False)

roles = client.auth.token
roles.create_or_update_role(role_name=name, allowed_policies=[name + "-read"], path_suffix="jobs", renewable=True)
step("token roles", roles.list_roles()["data"]["keys"] == [name] and roles.read_role(name)["data"]["path_suffix"] == "jobs")
by_role = roles.create(role_name=name, ttl="5m", no_default_policy=True)["auth"]
step("a token by a role", by_role["policies"] == [name + "-read"] and client.auth.token.lookup(by_role["client_token"])["data"]["role"] == name)
step("without default", hvac.Client(url=address, token=by_role["client_token"]).is_authenticated() is False)
step("and no other policy", refused(exceptions.InvalidRequest, lambda: roles.create(role_name=name, policies=["admin"])) is not None)
roles.delete_role(name)

made = client.write("sys/wrapping/wrap", wrap_ttl="60s", a="b")
step("wrap", made["wrap_info"]["token"] != "")
opened = client.sys.unwrap(made["wrap_info"]["token"])
step("unwrap", opened["data"] == {"a": "b"})
step("unwrap once", refused(exceptions.InvalidRequest, lambda: client.sys.unwrap(made["wrap_info"]["token"])) is not None)

transit = client.secrets.transit
transit.create_key(name=name)
ciphertext = transit.encrypt_data(name=name, plaintext=HELLO)["data"]["ciphertext"]
step("transit", transit.decrypt_data(name=name, ciphertext=ciphertext)["data"]["plaintext"] == HELLO)
transit.rotate_key(name=name)
step("rewrap", transit.rewrap_data(name=name, ciphertext=ciphertext)["data"]["ciphertext"].startswith("vault:v2:"))
signed = transit.create_key(name=name + "-sign", key_type="ed25519") and transit.sign_data(name=name + "-sign", hash_input=MESSAGE)["data"]["signature"]
step("sign and verify", transit.verify_signed_data(name=name + "-sign", hash_input=MESSAGE, signature=signed)["data"]["valid"])
other = hvac.Client(url=address, token=client.token, namespace="no-such-tenant")
step("another namespace", refused(exceptions.InvalidPath, lambda: other.secrets.kv.v2.read_secret_version(path=name + "/x", **RAISE)) is not None)
client.logout(revoke_token=True)
step("logout", client.is_authenticated() is False)
print("done")
