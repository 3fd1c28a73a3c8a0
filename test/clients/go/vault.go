//go:build !bao

package main

import "github.com/hashicorp/vault/api"

// The client of HashiCorp, as it is published.
type (
	Client               = api.Client
	Secret               = api.Secret
	ResponseError        = api.ResponseError
	KVMetadataPutInput   = api.KVMetadataPutInput
	KVMetadataPatchInput = api.KVMetadataPatchInput
	MountInput           = api.MountInput
	MountConfigInput     = api.MountConfigInput
	TokenCreateRequest   = api.TokenCreateRequest
	LifetimeWatcherInput = api.LifetimeWatcherInput
	TLSConfig            = api.TLSConfig
)

var (
	newClient     = api.NewClient
	defaultConfig = api.DefaultConfig
	withCAS       = api.WithCheckAndSet
	withMerge     = api.WithMergeMethod
	errNotFound   = api.ErrSecretNotFound
)
