/* The floor of admission_rate.rs: a table of fingerprints, eight bytes a slot, behind socketmap
 * and behind HTTP, in one thread around epoll. It confirms nothing and checks little: what has a
 * fingerprint like that of a mailbox is taken for it.
 *
 *     bare_table MAILBOXES PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { CALLERS_MAX = 1024, BYTES = 16384 };

static uint64_t *slots, mask;

static uint64_t hash(const char *text, size_t length)
{
	uint64_t sum = 0x9e3779b97f4a7c15u ^ length;
	for (; length >= 8; text += 8, length -= 8) {
		uint64_t word;
		memcpy(&word, text, 8);
		sum = (sum ^ word) * 0xff51afd7ed558ccdu;
		sum ^= sum >> 32;
	}
	uint64_t word = 0;
	memcpy(&word, text, length);
	sum = (sum ^ word) * 0xff51afd7ed558ccdu;
	return (sum ^ sum >> 29) | 2;
}

/* The lowest bit of a slot tells whether the mailbox is open. */
static void put(const char *text, size_t length, int open)
{
	uint64_t mark = hash(text, length) & ~1ull;
	uint64_t at = mark >> 20 & mask;
	while (slots[at])
		at = (at + 1) & mask;
	slots[at] = mark | open;
}

/* 0 held, 1 open, -1 unknown. */
static int get(const char *text, size_t length)
{
	uint64_t mark = hash(text, length) & ~1ull;
	for (uint64_t at = mark >> 20 & mask; slots[at]; at = (at + 1) & mask)
		if ((slots[at] & ~1ull) == mark)
			return slots[at] & 1;
	return -1;
}

static struct caller { size_t has; char in[BYTES]; } *callers[CALLERS_MAX];

static const char *const map_answers[] = {
	"9:NOTFOUND ,", "28:OK held:inet:127.0.0.1:10024,", "28:OK lmtp:inet:127.0.0.1:10024,",
};
static const char *const http_answers[] = {
	"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{\"state\":\"held\"}",
	"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{\"state\":\"held\"}",
	"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 18\r\n\r\n{\"state\":\"online\"}",
};

static size_t say(char *out, const char *answer)
{
	size_t length = strlen(answer);
	memcpy(out, answer, length);
	return length;
}

/* Answers the first request; how many bytes it had, 0 if it is not whole. */
static size_t map_request(const char *in, size_t has, char *out, size_t *said)
{
	size_t length = 0, at = 0;
	while (at < has && in[at] >= '0' && in[at] <= '9')
		length = length * 10 + (in[at++] - '0');
	if (at + length + 2 > has)
		return 0;
	const char *key = in + at + 1 + sizeof "transport";
	*said += say(out + *said, map_answers[1 + get(key, length - sizeof "transport")]);
	return at + length + 2;
}

static size_t http_request(const char *in, size_t has, char *out, size_t *said)
{
	const char *end = memmem(in, has, "\r\n\r\n", 4);
	if (!end)
		return 0;
	const char *key = in + sizeof "GET /gate/passdb/imap/" - 1;
	*said += say(out + *said, http_answers[1 + get(key, strcspn(key, "? "))]);
	return end + 4 - in;
}

static void serve(int fd)
{
	static char out[1 << 20];
	struct caller *caller = callers[fd];
	ssize_t got = read(fd, caller->in + caller->has, BYTES - 1 - caller->has);
	if (got <= 0) {
		close(fd);
		return;
	}
	caller->has += got;
	caller->in[caller->has] = 0;
	size_t said = 0, taken = 0, one;
	do {
		const char *in = caller->in + taken;
		size_t has = caller->has - taken;
		one = has == 0 ? 0 : *in == 'G' ? http_request(in, has, out, &said)
						: map_request(in, has, out, &said);
		taken += one;
	} while (one);
	memmove(caller->in, caller->in + taken, caller->has -= taken);
	if (said && write(fd, out, said) != (ssize_t)said)
		close(fd);
}

int main(int count, char **words)
{
	if (count != 3)
		return 64;
	unsigned mailboxes = atoi(words[1]);
	uint64_t size = 2;
	while (size < mailboxes * 2ull)
		size *= 2;
	mask = size - 1;
	slots = calloc(size, sizeof *slots);
	for (unsigned number = 0; number < mailboxes; number++) {
		char text[80];
		int length = sprintf(text, "user.%x@provider%u.example", number, number % 7);
		put(text, length, number % 3 != 0);
	}
	int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(atoi(words[2])),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 1024))
		return 74;
	int epoll = epoll_create1(0);
	struct epoll_event event = { .events = EPOLLIN, .data.fd = listener };
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
	for (;;) {
		struct epoll_event events[64];
		int ready = epoll_wait(epoll, events, 64, -1);
		for (int i = 0; i < ready; i++) {
			int fd = events[i].data.fd;
			if (fd != listener) {
				serve(fd);
				continue;
			}
			fd = accept(listener, 0, 0);
			if (fd < 0 || fd >= CALLERS_MAX)
				continue;
			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
			if (!callers[fd])
				callers[fd] = malloc(sizeof **callers);
			callers[fd]->has = 0;
			event = (struct epoll_event){ .events = EPOLLIN, .data.fd = fd };
			epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
		}
	}
}
