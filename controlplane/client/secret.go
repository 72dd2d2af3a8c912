package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/skerry-io/skerry/resources"
)

// Secrets lists the secrets of the cluster, without their values.
func (s *Server) Secrets(ctx context.Context) ([]resources.SecretStatus, error) {
	var secrets []resources.SecretStatus
	err := s.call(ctx, http.MethodGet, "/v1/secrets", nil, &secrets)
	return secrets, wrap(err, "list the secrets")
}

// PutSecret makes the secret what is wanted, or creates it. Services that use it
// get new revisions where its value is a new one: they are in the status.
func (s *Server) PutSecret(ctx context.Context, secret resources.Secret) (resources.SecretStatus, error) {
	var status resources.SecretStatus
	err := s.call(ctx, http.MethodPut, secretPath(secret.Name), secret, &status)
	return status, wrap(err, "put secret %s", secret.Name)
}

// Secret tells where a secret stands. Nobody is told its value.
func (s *Server) Secret(ctx context.Context, name string) (resources.SecretStatus, error) {
	var status resources.SecretStatus
	err := s.call(ctx, http.MethodGet, secretPath(name), nil, &status)
	return status, wrap(err, "read secret %s", name)
}

// WatchSecret calls see with each status of the secret until see returns false.
func (s *Server) WatchSecret(ctx context.Context, name string, see func(resources.SecretStatus) (more bool, err error)) error {
	return watch(ctx, s.connection, secretPath(name), see)
}

// DeleteSecret removes a secret. It is an error, for which api.IsConflict is true,
// where services use it.
func (s *Server) DeleteSecret(ctx context.Context, name string) error {
	return wrap(s.call(ctx, http.MethodDelete, secretPath(name), nil, nil), "delete secret %s", name)
}

// Configs lists the configs of the cluster, without their contents.
func (s *Server) Configs(ctx context.Context) ([]resources.ConfigStatus, error) {
	var configs []resources.ConfigStatus
	err := s.call(ctx, http.MethodGet, "/v1/configs", nil, &configs)
	return configs, wrap(err, "list the configs")
}

// PutConfig is PutSecret for a config.
func (s *Server) PutConfig(ctx context.Context, config resources.ConfigFile) (resources.ConfigStatus, error) {
	var status resources.ConfigStatus
	err := s.call(ctx, http.MethodPut, configPath(config.Name), config, &status)
	return status, wrap(err, "put config %s", config.Name)
}

// Config tells where a config stands, and what is in it.
func (s *Server) Config(ctx context.Context, name string) (resources.ConfigStatus, error) {
	var status resources.ConfigStatus
	err := s.call(ctx, http.MethodGet, configPath(name), nil, &status)
	return status, wrap(err, "read config %s", name)
}

// WatchConfig calls see with each status of the config until see returns false.
func (s *Server) WatchConfig(ctx context.Context, name string, see func(resources.ConfigStatus) (more bool, err error)) error {
	return watch(ctx, s.connection, configPath(name), see)
}

// DeleteConfig is DeleteSecret for a config.
func (s *Server) DeleteConfig(ctx context.Context, name string) error {
	return wrap(s.call(ctx, http.MethodDelete, configPath(name), nil, nil), "delete config %s", name)
}

// PutRegistries says how the registries of all images are reached.
func (s *Server) PutRegistries(ctx context.Context, registries map[string]resources.RegistryAccess) error {
	return wrap(s.call(ctx, http.MethodPut, "/v1/cluster/registries", registries, nil), "say how registries are reached")
}

// Registries tells that, without the passwords.
func (s *Server) Registries(ctx context.Context) (map[string]resources.RegistryAccess, error) {
	var registries map[string]resources.RegistryAccess
	err := s.call(ctx, http.MethodGet, "/v1/cluster/registries", nil, &registries)
	return registries, wrap(err, "ask how registries are reached")
}

// Keys gives the keys that secrets are sealed with: to servers, and to who may
// read their files anyway.
func (s *Server) Keys(ctx context.Context) (resources.Keyring, error) {
	var keys resources.Keyring
	err := s.call(ctx, http.MethodGet, "/v1/cluster/keys", nil, &keys)
	return keys, wrap(err, "fetch the sealing keys")
}

// RotateKey seals everything with a new key.
func (s *Server) RotateKey(ctx context.Context) (resources.Rotation, error) {
	var rotation resources.Rotation
	err := s.call(ctx, http.MethodPost, "/v1/cluster/keys/rotation", nil, &rotation)
	return rotation, wrap(err, "rotate the sealing key")
}

func secretPath(name string) string { return "/v1/secrets/" + url.PathEscape(name) }

func configPath(name string) string { return "/v1/configs/" + url.PathEscape(name) }
