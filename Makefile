# Thin: every command lives in xtask. `cargo xtask help` lists them all.
.PHONY: demo test bench lint clean

demo:
	cargo xtask bootstrap
	cargo xtask demo

test:
	cargo xtask bootstrap
	cargo xtask test

bench:
	cargo xtask bootstrap
	cargo xtask bench

lint:
	cargo xtask test --only lint

clean:
	cargo clean
