// Key-value trees of both versions, and their mounts.
package main

import (
	"errors"
	"fmt"
	"time"
)

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
