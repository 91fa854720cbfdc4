# maqet: `make demo` shows it, `make test` proves it, `make install` installs it.

PREFIX ?= /usr/local
BINDIR = $(PREFIX)/bin
MANDIR = $(PREFIX)/share/man
# systemd looks here whatever the prefix (systemd.unit(5)).
UNITDIR ?= $(PREFIX)/lib/systemd
MAQET = target/release/maqet

.PHONY: all demo test bench install check

all: $(MAQET)

.PHONY: $(MAQET)
$(MAQET):
	cargo build --release --locked

demo:
	tests/host/install
	cargo build --release --locked
	tests/demo $(IMAGE)

test:
	tests/host/install
	tests/guests/build
	cargo test --locked --lib --bins --test argv --test repository
	cargo test --locked --doc
	tests/host/test

bench:
	tests/host/install
	cargo build --release --locked
	benches/run

install: $(MAQET)
	install -D -m 755 $(MAQET) $(DESTDIR)$(BINDIR)/maqet
	install -d $(DESTDIR)$(UNITDIR)/user $(DESTDIR)$(UNITDIR)/system
	sed 's|@BINDIR@|$(BINDIR)|' units/maqet@.service.in > $(DESTDIR)$(UNITDIR)/user/maqet@.service
	for page in man/*.1; do install -D -m 644 $$page $(DESTDIR)$(MANDIR)/man1/$${page##*/} || exit; done
	for page in man/*.5; do install -D -m 644 $$page $(DESTDIR)$(MANDIR)/man5/$${page##*/} || exit; done
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(MAQET) completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/maqet
	$(MAQET) completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_maqet
	$(MAQET) completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/maqet.fish
