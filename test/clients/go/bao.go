//go:build bao

package main

import "github.com/openbao/openbao/api/v2"

// The client of OpenBao, as it is published.
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
