# Thin: every command lives in xtask. `cargo xtask help` lists them all; what is in ARGS is passed on.
.PHONY: demo test bench bench-store bench-federation sim chaos fuzz plant kube-apiserver k8s-tools test-k8s test-k8s-docs test-k8s-mcs test-k8s-meshctl test-k8s-faults test-k8s-matrix test-k8s-upgrade test-k8s-scale images lint clean

# rust-toolchain.toml pins 1.95.0. Where rustup may not fetch it, an installed stable of the same version is as good.
ifneq ($(shell rustc --version >/dev/null 2>&1 && echo here),here)
ifneq ($(filter 1.95.%,$(shell rustc +stable --version 2>/dev/null)),)
export RUSTUP_TOOLCHAIN := stable
endif
endif

demo:
	cargo xtask demo $(ARGS)

test:
	cargo xtask test $(ARGS)

bench:
	cargo xtask bench $(ARGS)

# Three replicas of the store beside three of etcd: about eight minutes, or a part of it: make bench-store ARGS='--only put'
bench-store:
	cargo xtask bench store $(ARGS)

# One cluster with 250 mock peers: about fifteen minutes, or a part of it: make bench-federation ARGS='--only bootstrap --clusters 10'
bench-federation:
	cargo xtask bench federation $(ARGS)

# The store on simulated disks and lines: make sim SEEDS=0..10000, or one: make sim SEEDS=7..8
SEEDS ?= 0..1000
# Optimised, a world takes a fifth of the time, and the build three minutes.
SIM_FAST := --config profile.dev.package.mesh-store.opt-level=1 --config profile.dev.package.mesh-store-sim.opt-level=1
sim:
	ISTHMUS_SIM_SEEDS=$(SEEDS) cargo test $(SIM_FAST) -p mesh-store-sim --test simulation -- --nocapture

# Inputs that nobody meant: make fuzz, or one target for long: make fuzz ARGS='log --seconds 3600'
fuzz:
	cargo xtask fuzz $(ARGS)

# The store as real processes that are killed, paused, cut off and out of disk: make chaos ARGS='--seconds 600 --seed 7'
chaos:
	cargo xtask chaos $(ARGS)

# The store broken on purpose, to see that the checks notice.
plant:
	cargo xtask plant $(ARGS)

# A real kube-apiserver for the test that runs one on the store; once, 15 minutes.
kube-apiserver:
	cargo xtask kube-apiserver

# Kubernetes' own programs for test-k8s, outside the checkout; once a machine, half an hour.
k8s-tools:
	cargo xtask k8s-tools

# Real Kubernetes clusters on this machine. One target, one test: make test-k8s ARGS='--test kubernetes --only two_real'
test-k8s:
	cargo xtask test-k8s $(ARGS)

# Every part of two joined clusters killed under load: five minutes.
test-k8s-faults:
	cargo xtask test-k8s --test kubernetes_faults $(ARGS)

# Every network with every mode of kube-proxy: three minutes and more.
test-k8s-matrix:
	cargo xtask test-k8s --test kubernetes_matrix $(ARGS)

# The 27 cases of the MCS API.
test-k8s-mcs:
	cargo xtask test-k8s --test kubernetes_mcs $(ARGS)

# meshctl as a person types it, with faults that it must name.
test-k8s-meshctl:
	cargo xtask test-k8s --test kubernetes_meshctl $(ARGS)

# Every command of the users' documents: five minutes.
test-k8s-docs:
	cargo xtask test-k8s --test kubernetes_docs $(ARGS)

# 500 Services with 5,000 endpoints, and what they cost: four minutes; fewer: ISTHMUS_KUBE_SCALE=100 make test-k8s-scale
test-k8s-scale:
	cargo xtask test-k8s --test kubernetes_scale $(ARGS)

# An upgrade from the previous commit and back, under load; from another: make test-k8s-upgrade ARGS='--from v1'
test-k8s-upgrade:
	cargo xtask test-k8s-upgrade $(ARGS)

# The container images as archives in target/images; of the dev profile: make images ARGS=--dev
images:
	cargo xtask images $(ARGS)

lint:
	cargo xtask lint

clean:
	cargo clean
