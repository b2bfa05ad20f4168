package main

import (
	"fmt"
	"net"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// A user is someone whom a kubeconfig lets in.
type user struct {
	file   string
	name   string
	groups []string
}

// users have an identity each, as in a real cluster, so that RBAC and API
// Priority and Fairness treat them as they would there. KWOK stands in for
// kubelets, and is trusted like an administrator.
var users = []user{
	{adminKubeconfig, "kubernetes-admin", []string{"system:masters"}},
	{plumblineKubeconfig, "plumbline", nil},
	{controllersKubeconfig, "system:kube-controller-manager", nil},
	{schedulerKubeconfig, "system:kube-scheduler", nil},
	{kwokKubeconfig, "kwok", []string{"system:masters"}},
}

// writeKubeconfigs writes the kubeconfigs anew at every start: the port may have
// changed.
func writeKubeconfigs(ca *authority, server net.Addr) error {
	for _, u := range users {
		client, err := ca.issueClient(u.name, u.groups...)
		if err != nil {
			return err
		}
		config := kubeconfigOf(u.name, "https://"+server.String(), ca.pem, client)
		if err := clientcmd.WriteToFile(config, u.file); err != nil {
			return fmt.Errorf("write %s: %w", u.file, err)
		}
	}
	return nil
}

func kubeconfigOf(user, server string, ca []byte, client pair) clientcmdapi.Config {
	const name = "plumbline-lab"
	return clientcmdapi.Config{
		CurrentContext: name,
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: server, CertificateAuthorityData: ca}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{user: {ClientCertificateData: client.cert, ClientKeyData: client.key}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: user}},
	}
}
