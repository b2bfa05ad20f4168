package secrets

import (
	_ "filippo.io/age"
	_ "github.com/getsops/sops/v3"
	_ "github.com/getsops/sops/v3/aes"
	_ "github.com/getsops/sops/v3/config"
	_ "github.com/getsops/sops/v3/keyservice"
	_ "github.com/openbao/openbao/api/v2"
)
