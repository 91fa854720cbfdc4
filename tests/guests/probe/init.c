/* The probe: a guest that is one static program, up as soon as its kernel is.
 *
 * It does what the words on the kernel command line say:
 *
 *   probe.act=idle|poweroff|reboot|panic|suspend|hang|print|watchdog
 *                             what to do when up (idle)
 *   probe.delay=SECONDS       how long after "probe: ready" to do it (0)
 *   probe.button=poweroff|ignore
 *                             answer to the ACPI power button (poweroff)
 *   probe.button-delay=SECONDS  from the button to the answer (0)
 *   probe.print=N             print N numbered lines of 80 characters, then be ready
 *   probe.keys=echo           print each key event that is read: "probe: key CODE VALUE",
 *                             where 1 is down and 0 is up
 *   probe.address=A           give the network card the IPv4 address A, of 24 bits
 *   probe.ping=A              ask A for an echo until it comes: "probe: A answers"
 *   probe.say=PORT,...        write to those in /dev, before being ready: "probe: this is PORT"
 *   probe.cat=FILE            print what it says, before being ready: up to 64 KiB, with a new
 *                             line for what cannot be printed
 *   probe.write=1             each 10 ms, write a higher number to /dev/vda and fsync
 *
 * Told of a vmm.notify_socket (systemd(1), "system credentials"), it sends there what
 * systemd does when it is up, message by message, unless there is a
 *
 *   probe.notify=never        which sends all but READY=1
 *
 * `print` prints such lines for ever, but still hears the button; `hang` hears
 * nothing any more, nor does `watchdog`, having set one going. A panic is the end
 * of PID 1, so any way out of main() is one.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/input.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MAX_INPUTS 16
#define NEVER 1e18

static char cmdline[4096];
static struct pollfd inputs[MAX_INPUTS];
static char input_names[MAX_INPUTS][32];
static long lines_printed;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* The value of probe.KEY; the last one wins. */
static const char *option(const char *key, const char *otherwise)
{
	static char copy[sizeof cmdline];
	size_t length = strlen(key);
	const char *value = otherwise;

	strcpy(copy, cmdline);
	for (char *word = strtok(copy, " \n"); word; word = strtok(NULL, " \n"))
		if (!strncmp(word, "probe.", 6) && !strncmp(word + 6, key, length) && word[6 + length] == '=')
			value = word + 7 + length;
	return value == otherwise ? otherwise : strdup(value);
}

static void read_file(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buffer, size - 1);
	buffer[n < 0 ? 0 : n] = 0;
	close(fd);
}

static void print_file(const char *path)
{
	static char text[1 << 16];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);

	if (n < 0)
		printf("probe: cannot read %s: %m", path);
	for (ssize_t i = 0; i < n; i++) {
		if (text[i] >= ' ')
			putchar(text[i]);
		else if (i == 0 || text[i - 1] >= ' ')
			putchar('\n');
	}
	putchar('\n');
	close(fd);
}

static void say_to(const char *port)
{
	char path[64];
	snprintf(path, sizeof path, "/dev/%.32s", port);
	int fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
	if (dprintf(fd, "probe: this is %s\n", port) < 0)
		printf("probe: cannot write to %s: %m\n", path);
	close(fd);
}

static void load_modules(void)
{
	char order[4096];
	read_file("/modules/order", order, sizeof order);
	for (char *path = strtok(order, "\n"); path; path = strtok(NULL, "\n")) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		syscall(SYS_finit_module, fd, "", 0);
		close(fd);
	}
}

/* Keyboards come and go, so this looks again now and then. */
static void open_inputs(void)
{
	DIR *directory = opendir("/dev/input");
	if (!directory)
		return;
	for (struct dirent *entry; (entry = readdir(directory));) {
		int slot = -1;
		if (strncmp(entry->d_name, "event", 5))
			continue;
		for (int i = 0; i < MAX_INPUTS; i++) {
			if (inputs[i].fd < 0)
				slot = i;
			else if (!strcmp(input_names[i], entry->d_name))
				goto known;
		}
		if (slot >= 0) {
			char path[64];
			snprintf(path, sizeof path, "/dev/input/%.31s", entry->d_name);
			inputs[slot].fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
			inputs[slot].events = POLLIN;
			snprintf(input_names[slot], sizeof input_names[slot], "%.31s", entry->d_name);
		}
	known:;
	}
	closedir(directory);
}

/* Key events that were read and not printed yet. The console is slow, and the
 * kernel keeps no more than 64 for those who do not read them meanwhile. */
static struct {
	unsigned short code, value;
} heard[1 << 16];
static int heard_count;

static void print_heard(void)
{
	for (int i = 0; i < heard_count; i++)
		printf("probe: key %d %d\n", heard[i].code, heard[i].value);
	heard_count = 0;
}

/* Waits up to `seconds` for keys; says whether one was the power button. */
static int read_keys(double seconds, int echo)
{
	/* As many as the kernel keeps: it drops what is not read in time. */
	static struct input_event events[64];
	int button = 0;

	if (heard_count && seconds > 0.1)
		seconds = 0.1;
	if (!poll(inputs, MAX_INPUTS, seconds > 0 ? (int)(seconds * 1000) + 1 : 0))
		print_heard();
	for (int i = 0; i < MAX_INPUTS; i++) {
		ssize_t n = -1;
		while (inputs[i].fd >= 0 && (n = read(inputs[i].fd, events, sizeof events)) > 0) {
			for (struct input_event *event = events; n > 0; event++, n -= sizeof *event) {
				if (event->type == EV_SYN && event->code == SYN_DROPPED)
					printf("probe: keys lost\n");
				if (event->type != EV_KEY || event->value > 1)
					continue;
				if (echo && heard_count < (int)(sizeof heard / sizeof *heard)) {
					heard[heard_count].code = event->code;
					heard[heard_count++].value = event->value;
				}
				button |= event->code == KEY_POWER && event->value;
			}
		}
		if (inputs[i].revents & (POLLERR | POLLHUP)) { /* unplugged */
			close(inputs[i].fd);
			inputs[i].fd = -1;
		}
	}
	return button;
}

static void print_line(void)
{
	printf("probe line %06ld %.*s\n", ++lines_printed, 80 - 18,
	       "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz");
}

static void write_counter(int disk, unsigned long long *counter)
{
	char sector[512];
	memset(sector, ' ', sizeof sector);
	sector[sizeof sector - 1] = '\n';
	sector[sprintf(sector, "%020llu", ++*counter)] = '\n';
	if (pwrite(disk, sector, sizeof sector, 0) != sizeof sector || fsync(disk))
		printf("probe: write failed: %m\n");
}

/* Opens a file of a PCI device. */
static int open_of_pci(const char *address, const char *file)
{
	char path[128];
	snprintf(path, sizeof path, "/sys/bus/pci/devices/%.32s/%s", address, file);
	return open(path, O_RDWR | O_CLOEXEC);
}

/* Sets the i6300esb going, to go off in two stages of 0.1 s. The kernel's driver can do no less
 * than two seconds. Registers are those of the Intel 6300ESB's datasheet, chapter 15. */
static int set_watchdog(void)
{
	DIR *directory = opendir("/sys/bus/pci/devices");
	const unsigned short kilohertz_and_reset = 3;
	const unsigned char on = 2;
	unsigned id, bar;
	int config = -1, is_set = 0;

	for (struct dirent *entry; directory && !is_set && (entry = readdir(directory));) {
		config = open_of_pci(entry->d_name, "config");
		if (pread(config, &id, 4, 0) == 4 && id == 0x25ab8086 && pread(config, &bar, 4, 0x10) == 4) {
			int enable = open_of_pci(entry->d_name, "enable");
			int memory = open_of_pci(entry->d_name, "resource0");
			void *page = write(enable, "1", 1) == 1
				? mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0) : MAP_FAILED;
			if (page != MAP_FAILED) {
				volatile char *registers = (char *)page + (bar & 0xff0);
				for (int timer = 0; timer < 8; timer += 4) {
					*(volatile unsigned short *)(registers + 12) = 0x80;
					*(volatile unsigned short *)(registers + 12) = 0x86;
					*(volatile unsigned *)(registers + timer) = 100;
				}
				is_set = pwrite(config, &kilohertz_and_reset, 2, 0x60) == 2 &&
					pwrite(config, &on, 1, 0x68) == 1;
			}
		}
		close(config);
	}
	return is_set;
}

static void power_off(void)
{
	printf("probe: powering off\n");
	tcdrain(1);
	reboot(RB_POWER_OFF);
}

static void act(const char *what)
{
	if (!strcmp(what, "poweroff")) {
		power_off();
	} else if (!strcmp(what, "reboot")) {
		printf("probe: rebooting\n");
		tcdrain(1);
		reboot(RB_AUTOBOOT);
	} else if (!strcmp(what, "panic")) {
		printf("probe: panicking\n");
		tcdrain(1);
		_exit(1);
	} else if (!strcmp(what, "suspend")) {
		int fd = open("/sys/power/state", O_WRONLY | O_CLOEXEC);
		printf("probe: suspending\n");
		if (write(fd, "mem", 3) != 3)
			printf("probe: cannot suspend: %m\n");
		close(fd);
		printf("probe: awake\n");
	} else if (!strcmp(what, "watchdog")) {
		if (!set_watchdog())
			printf("probe: no watchdog\n");
		act("hang");
	} else if (!strcmp(what, "hang")) {
		printf("probe: hanging\n");
		for (;;)
			pause();
	}
}

/* The host's port that is to be notified, from SMBIOS or from fw_cfg; 0 if there is none. */
static unsigned notify_port(void)
{
	static const char key[] = "io.systemd.credential:vmm.notify_socket=";
	static char table[1 << 16];
	unsigned port = 0;
	int fd = open("/sys/firmware/dmi/tables/DMI", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, table, sizeof table - 1);
	char *value = n > 0 ? memmem(table, n, key, strlen(key)) : NULL;

	close(fd);
	if (value) {
		value += strlen(key);
	} else {
		read_file("/sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/vmm.notify_socket/raw",
			  table, sizeof table);
		value = table;
	}
	return sscanf(value, "vsock-stream:2:%u", &port) == 1 ? port : 0;
}

/* As sd_notify(3) does: a connection for each message, and the host closes it first. */
static void notify(unsigned port, const char *message)
{
	struct sockaddr_vm host = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char nothing;

	if (connect(fd, (struct sockaddr *)&host, sizeof host) || write(fd, message, strlen(message)) < 0 ||
	    shutdown(fd, SHUT_WR) || recv(fd, &nothing, 1, 0))
		printf("probe: cannot notify: %m\n");
	close(fd);
}

/* The one network card, whose driver may still be looking at it. */
static void set_address(const char *address)
{
	struct ifreq card = {.ifr_name = "eth0"};
	struct sockaddr_in *value = (struct sockaddr_in *)&card.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), failed = 1;

	for (int tries = 0; tries < 100 && ioctl(fd, SIOCGIFINDEX, &card); tries++)
		usleep(20000);
	memset(value, 0, sizeof *value);
	value->sin_family = AF_INET;
	if (inet_pton(AF_INET, address, &value->sin_addr) == 1 && !ioctl(fd, SIOCSIFADDR, &card)) {
		inet_pton(AF_INET, "255.255.255.0", &value->sin_addr);
		failed = ioctl(fd, SIOCSIFNETMASK, &card);
		card.ifr_flags = IFF_UP;
		failed |= ioctl(fd, SIOCSIFFLAGS, &card);
	}
	if (failed)
		printf("probe: cannot have the address %s: %m\n", address);
	close(fd);
}

/* Asks for an echo (RFC 792), and says whether one has come by now. */
static int ping(int fd, const char *address)
{
	struct sockaddr_in other = {.sin_family = AF_INET};
	struct icmphdr echo = {.type = ICMP_ECHO, .un.echo.id = 7};
	unsigned char packet[512];
	ssize_t n;

	inet_pton(AF_INET, address, &other.sin_addr);
	echo.checksum = ~(echo.type + echo.un.echo.id); /* of two words, of which none carries */
	sendto(fd, &echo, sizeof echo, 0, (struct sockaddr *)&other, sizeof other);
	while ((n = recv(fd, packet, sizeof packet, MSG_DONTWAIT)) > 0) {
		struct iphdr *ip = (struct iphdr *)packet;
		struct icmphdr *reply = (struct icmphdr *)(packet + 4 * ip->ihl);
		if (n >= 4 * ip->ihl + (ssize_t)sizeof *reply && ip->saddr == other.sin_addr.s_addr &&
		    reply->type == ICMP_ECHOREPLY && reply->un.echo.id == echo.un.echo.id)
			return 1;
	}
	return 0;
}

int main(void)
{
	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	load_modules();
	/* Only now: the console may be a device whose module was just loaded. */
	int console = open("/dev/console", O_RDWR);
	dup2(console, 0);
	dup2(console, 1);
	dup2(console, 2);
	setlinebuf(stdout);
	read_file("/proc/cmdline", cmdline, sizeof cmdline);

	const char *what = option("act", "idle");
	int printing = !strcmp(what, "print");
	int echo = !strcmp(option("keys", ""), "echo");
	int ignore_button = !strcmp(option("button", "poweroff"), "ignore");
	double button_delay = atof(option("button-delay", "0"));
	long lines = atol(option("print", "0"));
	const char *pinged = option("ping", "");
	int disk = -1, icmp = -1;
	unsigned long long counter = 0;

	if (*option("address", ""))
		set_address(option("address", ""));
	if (*pinged)
		icmp = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);

	if (atoi(option("write", "0"))) {
		char sector[513] = "";
		for (int tries = 0; tries < 100 && (disk = open("/dev/vda", O_RDWR | O_CLOEXEC)) < 0; tries++)
			usleep(20000);
		if (disk < 0)
			printf("probe: no /dev/vda\n");
		else if (pread(disk, sector, 512, 0) == 512)
			counter = strtoull(sector, NULL, 10);
		printf("probe: counting from %llu\n", counter);
	}
	for (int i = 0; i < MAX_INPUTS; i++)
		inputs[i].fd = -1;
	open_inputs();
	while (lines_printed < lines)
		print_line();
	for (char *port = strtok((char *)option("say", (char[]){""}), ","); port; port = strtok(NULL, ","))
		say_to(port);
	if (*option("cat", ""))
		print_file(option("cat", ""));
	printf("probe: ready\n");
	unsigned port = notify_port();
	if (port) {
		notify(port, "X_SYSTEMD_HOSTNAME=probe");
		notify(port, "X_SYSTEMD_UNIT_ACTIVE=basic.target\nSTATUS=almost READY=1");
		if (strcmp(option("notify", ""), "never"))
			notify(port, "STATUS=up\nREADY=1\n");
		printf("probe: notified\n");
	}

	double act_at = now() + atof(option("delay", "0")), off_at = NEVER, look_at = now() + 1, write_at = now(), ping_at = now();
	for (;;) {
		double t = now();
		if (t >= off_at)
			power_off();
		if (t >= act_at && !printing) {
			act_at = NEVER;
			act(what);
		}
		if (t >= look_at) {
			look_at = t + 1;
			open_inputs();
		}
		if (disk >= 0 && t >= write_at) {
			write_at = t + 0.01;
			write_counter(disk, &counter);
		}
		if (icmp >= 0 && t >= ping_at) {
			ping_at = t + 0.1;
			if (ping(icmp, pinged)) {
				printf("probe: %s answers\n", pinged);
				close(icmp);
				icmp = -1;
			}
		}
		if (printing && t >= act_at)
			for (int i = 0; i < 100; i++)
				print_line();

		double next = look_at;
		if (act_at < next) next = act_at;
		if (off_at < next) next = off_at;
		if (disk >= 0 && write_at < next) next = write_at;
		if (icmp >= 0 && ping_at < next) next = ping_at;
		if (read_keys(next - now(), echo)) {
			printf("probe: power button\n");
			if (!ignore_button && off_at == NEVER)
				off_at = now() + button_delay;
		}
	}
}
