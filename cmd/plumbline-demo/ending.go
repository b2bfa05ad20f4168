package main

import "time"

// summary is what the demo showed, on one screen.
func (d *demo) summary(took time.Duration) {
	d.out.say(plain, "")
	d.out.say(bold, "All of it held, in %s:", short(took))
	for _, text := range d.held {
		d.out.say(green, "%s✓ %s", indent, text)
	}
}

// tryNext says what to do with what runs now.
func (d *demo) tryNext() {
	d.out.say(plain, "")
	d.out.say(bold, "It keeps running. Try, in another terminal:")
	for _, c := range [][2]string{
		{"export KUBECONFIG=" + d.plane.Kubeconfig, ""},
		{d.plumbline + " status", "how everything is doing"},
		{"kubectl get stacks", "the same, for every Kubernetes tool"},
		{"kubectl -n shop scale deployment/shop --replicas=0", "and watch it return"},
		{"cd " + d.team.Dir, "the working tree of the team:"},
		{"  $EDITOR shop/app/deployment.yaml", "an image, replicas, a mistake"},
		{"  " + d.plumbline + " plan --source team", "what it would change; nothing changes"},
		{"  git commit -am 'Try' && git push", "and see it arrive here"},
	} {
		line := indent + c[0]
		if c[1] != "" {
			line = pad(line, 56) + "  # " + c[1]
		}
		d.out.say(plain, "%s", line)
	}
	d.out.say(plain, "\nCtrl-C here stops and removes everything. Until then, this is what the daemon does:")
}
