package store

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Secret returns a value that is not part of the state, such as the key of the
// cluster's authority; nil where there is none of that name.
func (e *Etcd) Secret(ctx context.Context, name string) ([]byte, error) {
	response, err := e.get(ctx, secretsPrefix+name)
	if err != nil {
		return nil, fmt.Errorf("read the secret %s: %w", name, err)
	}
	if len(response.Kvs) == 0 {
		return nil, nil
	}
	return response.Kvs[0].Value, nil
}

// PutSecret stores a secret. A name is written once: where it is there already
// PutSecret returns ErrStale, so that of two servers that make the same secret
// one learns that it has to read that of the other.
func (e *Etcd) PutSecret(ctx context.Context, name string, value []byte) error {
	key := secretsPrefix + name
	absent := clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
	response, err := e.client.Txn(ctx).If(absent).Then(clientv3.OpPut(key, string(value))).Commit()
	if err != nil {
		return fmt.Errorf("write the secret %s: %w", name, explain(err))
	}
	if !response.Succeeded {
		return fmt.Errorf("write the secret %s: %w", name, ErrStale)
	}
	return nil
}
