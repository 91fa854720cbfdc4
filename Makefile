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

# Linked statically, as finding three libraries takes a short command a fifth of
# its time. Where there is no static C library (libc.a): make STATIC=
STATIC = -C target-feature=+crt-static
# Named, so that the flags do not reach cargo's own build programs.
TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
TARGET_DIR = $(abspath $(or $(CARGO_TARGET_DIR),target))/$(TARGET)
MAQET = $(TARGET_DIR)/release/maqet
BUILD = RUSTFLAGS="$(STATIC)" cargo build --release --locked --target $(TARGET)

SHELL = /bin/bash
.SHELLFLAGS = -eo pipefail -c

.PHONY: all demo test bench install

all:
	$(BUILD)

demo:
	tests/host/install
	$(BUILD)
	CARGO_TARGET_DIR=$(TARGET_DIR) tests/demo $(IMAGE)

test:
	tests/host/install
	tests/guests/build
	cargo test --locked --lib --bins --test argv --test repository
	cargo test --locked --doc
	tests/host/test

bench:
	tests/host/install
	$(BUILD)
	CARGO_TARGET_DIR=$(TARGET_DIR) benches/run

install:
	@test -x $(MAQET) || { echo "nothing to install yet: run make first" >&2; exit 1; }
	install -D -m 755 $(MAQET) $(DESTDIR)$(BINDIR)/maqet
	sed 's|@BINDIR@|$(BINDIR)|' units/maqet@.service.in | install -D -m 644 /dev/stdin $(DESTDIR)$(UNITDIR)/user/maqet@.service
	for page in man/*.1; do install -D -m 644 $$page $(DESTDIR)$(MANDIR)/man1/$${page##*/}; done
	for page in man/*.5; do install -D -m 644 $$page $(DESTDIR)$(MANDIR)/man5/$${page##*/}; done
	$(MAQET) completion bash | install -D -m 644 /dev/stdin $(DESTDIR)$(BASHDIR)/maqet
	$(MAQET) completion zsh | install -D -m 644 /dev/stdin $(DESTDIR)$(ZSHDIR)/_maqet
	$(MAQET) completion fish | install -D -m 644 /dev/stdin $(DESTDIR)$(FISHDIR)/maqet.fish
