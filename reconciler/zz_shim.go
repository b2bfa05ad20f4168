package reconciler

import (
	"context"

	"github.com/plumbline-dev/plumbline/secrets"
)

func shim(b *secrets.Bao) movedFunc {
	return func(ctx context.Context, r map[secrets.Read]secrets.Version) (map[secrets.Read]string, map[secrets.Read]error) {
		m, err := b.Moved(ctx, r)
		failed := map[secrets.Read]error{}
		if err != nil {
			for k := range r {
				failed[k] = err
			}
		}
		return m, failed
	}
}
