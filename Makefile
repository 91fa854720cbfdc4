# maqet: `make demo` shows it, `make test` proves it, `make install` installs it.

PREFIX ?= /usr/local
BINDIR = $(PREFIX)/bin
MANDIR = $(PREFIX)/share/man
# Where systemd looks for units when PREFIX is /usr or /usr/local (systemd.unit(5)).
# For one user alone: PREFIX=$HOME/.local UNITDIR=$HOME/.local/share/systemd
UNITDIR ?= $(PREFIX)/lib/systemd
BASHDIR = $(PREFIX)/share/bash-completion/completions
ZSHDIR = $(PREFIX)/share/zsh/site-functions
FISHDIR = $(PREFIX)/share/fish/vendor_completions.d
MAQET = $(or $(CARGO_TARGET_DIR),target)/release/maqet

# Linked statically, as most of what a short command costs is its libraries.
# `make LINK=` links as usual, where the C library comes without libc.a.
LINK ?= -C target-feature=+crt-static
BUILD = cargo rustc --release --locked --bin maqet -- $(LINK)

SHELL = /bin/bash
.SHELLFLAGS = -eo pipefail -c

.PHONY: all demo test bench install

all:
	$(BUILD)

demo:
	tests/host/install
	$(BUILD)
	tests/demo $(IMAGE)

test:
	tests/host/install
	tests/guests/build
	cargo test --locked --lib --bins --test argv --test repository
	cargo test --locked --doc
	tests/fuzz/run qmp
	tests/fuzz/run definition
	tests/host/test

bench:
	tests/host/install
	$(BUILD)
	cargo build --release --locked --example requests
	benches/run

install:
	@test -x $(MAQET) || { echo "nothing to install yet: run make first" >&2; exit 1; }
	install -D -m 755 $(MAQET) $(DESTDIR)$(BINDIR)/maqet
	sed 's|@BINDIR@|$(BINDIR)|' units/maqet@.service.in | install -D -m 644 /dev/stdin $(DESTDIR)$(UNITDIR)/user/maqet@.service
	for page in man/*.1; do install -D -m 644 $$page $(DESTDIR)$(MANDIR)/man1/$${page##*/}; done
	for page in man/*.5; do install -D -m 644 $$page $(DESTDIR)$(MANDIR)/man5/$${page##*/}; done
	$(MAQET) completion bash | install -D -m 644 /dev/stdin $(DESTDIR)$(BASHDIR)/maqet
	$(MAQET) completion zsh | install -D -m 644 /dev/stdin $(DESTDIR)$(ZSHDIR)/_maqet
	$(MAQET) completion fish | install -D -m 644 /dev/stdin $(DESTDIR)$(FISHDIR)/maqet.fish
