/*
 * yardstick: what the machine can do at best, in plain C, and what any program takes.
 *
 *   yardstick read DIR...          sums every regular file: inode order, two threads, read-ahead
 *   yardstick bare DIR...          the same without the sums
 *   yardstick copy FROM TO         copies a tree: inode order, two threads, one syncfs
 *   yardstick sync DIR             one syncfs
 *   yardstick measure OUT PROG...  runs a program; wall ns, user us, system us, peak KiB, exit code
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __SSE4_2__
#include <nmmintrin.h>
#endif

enum { THREADS = 2, AHEAD = 32, BUFFER = 256 * 1024 };

struct entry {
	uint64_t inode;
	char *path;
};

static struct entry *entries;
static size_t entry_count, entry_room, prefix_length;
static char **dirs;
static size_t dir_count, dir_room;
static atomic_size_t next_chunk;
static atomic_ullong total_bytes, total_sum;
static int summing = 1;
static const char *target;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void walk(const char *path)
{
	DIR *dir = opendir(path);
	if (!dir)
		fail(path);
	if (dir_count == dir_room) {
		dir_room = dir_room ? dir_room * 2 : 1024;
		dirs = realloc(dirs, dir_room * sizeof *dirs);
	}
	dirs[dir_count++] = strdup(path);
	struct dirent *it;
	while ((it = readdir(dir))) {
		if (!strcmp(it->d_name, ".") || !strcmp(it->d_name, ".."))
			continue;
		char *below;
		if (asprintf(&below, "%s/%s", path, it->d_name) < 0)
			fail("asprintf");
		if (it->d_type == DT_DIR) {
			walk(below);
			free(below);
		} else if (it->d_type == DT_REG) {
			if (entry_count == entry_room) {
				entry_room = entry_room ? entry_room * 2 : 65536;
				entries = realloc(entries, entry_room * sizeof *entries);
			}
			entries[entry_count].inode = it->d_ino;
			entries[entry_count++].path = below;
		} else {
			free(below);
		}
	}
	closedir(dir);
}

static int by_inode(const void *left, const void *right)
{
	uint64_t a = ((const struct entry *)left)->inode;
	uint64_t b = ((const struct entry *)right)->inode;
	return (a > b) - (a < b);
}

static uint64_t add(uint64_t sum, const unsigned char *bytes, size_t length)
{
	size_t at = 0;
	uint64_t word;
	for (; at + 8 <= length; at += 8) {
		memcpy(&word, bytes + at, 8);
#ifdef __SSE4_2__
		sum = _mm_crc32_u64(sum, word);
#else
		sum = (sum << 1 | sum >> 63) + word;
#endif
	}
	for (; at < length; at++)
		sum = sum * 31 + bytes[at];
	return sum;
}

static int open_ahead(size_t index)
{
	int fd = open(entries[index].path, O_RDONLY | O_NOATIME);
	if (fd < 0)
		fail(entries[index].path);
	posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
	return fd;
}

static void *read_files(void *unused)
{
	unsigned char *buffer = malloc(BUFFER);
	int fds[AHEAD];
	size_t first;
	while ((first = atomic_fetch_add(&next_chunk, AHEAD)) < entry_count) {
		size_t count = entry_count - first < AHEAD ? entry_count - first : AHEAD;
		uint64_t bytes = 0, sum = 0;
		for (size_t i = 0; i < count; i++)
			fds[i] = open_ahead(first + i);
		for (size_t i = 0; i < count; i++) {
			ssize_t length;
			while ((length = read(fds[i], buffer, BUFFER)) > 0) {
				bytes += length;
				if (summing)
					sum = add(sum, buffer, length);
			}
			if (length < 0)
				fail(entries[first + i].path);
			close(fds[i]);
		}
		atomic_fetch_add(&total_bytes, bytes);
		atomic_fetch_add(&total_sum, sum);
	}
	return unused;
}

static void copy_file(const struct entry *entry)
{
	char to[4096];
	struct stat stat;
	snprintf(to, sizeof to, "%s%s", target, entry->path + prefix_length);
	int in = open(entry->path, O_RDONLY);
	if (in < 0 || fstat(in, &stat))
		fail(entry->path);
	int out = open(to, O_WRONLY | O_CREAT | O_EXCL, stat.st_mode & 07777);
	if (out < 0)
		fail(to);
	for (off_t left = stat.st_size; left > 0;) {
		ssize_t length = copy_file_range(in, NULL, out, NULL, left, 0);
		if (length <= 0)
			fail(to);
		left -= length;
		atomic_fetch_add(&total_bytes, length);
	}
	struct timespec times[2] = {stat.st_atim, stat.st_mtim};
	futimens(out, times);
	close(in);
	close(out);
}

static void *copy_files(void *unused)
{
	size_t first;
	while ((first = atomic_fetch_add(&next_chunk, AHEAD)) < entry_count)
		for (size_t i = first; i < entry_count && i < first + AHEAD; i++)
			copy_file(&entries[i]);
	return unused;
}

static void run(void *(*work)(void *))
{
	pthread_t threads[THREADS];
	qsort(entries, entry_count, sizeof *entries, by_inode);
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, work, NULL))
			fail("pthread_create");
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	printf("%zu %llu %llx\n", entry_count, (unsigned long long)total_bytes,
	       (unsigned long long)total_sum);
}

static void sync_tree(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY);
	if (fd < 0 || syncfs(fd))
		fail(path);
	close(fd);
}

static int copy(const char *from, const char *to)
{
	target = to;
	prefix_length = strlen(from);
	walk(from);
	for (size_t i = 0; i < dir_count; i++) {
		char path[4096];
		snprintf(path, sizeof path, "%s%s", target, dirs[i] + prefix_length);
		if (mkdir(path, 0700) && errno != EEXIST)
			fail(path);
	}
	run(copy_files);
	sync_tree(to);
	return 0;
}

static int measure(const char *out, char **program)
{
	struct timespec begin, end;
	struct rusage usage;
	int status;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	pid_t child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		execvp(program[0], program);
		_exit(127);
	}
	if (wait4(child, &status, 0, &usage) < 0)
		fail("wait4");
	clock_gettime(CLOCK_MONOTONIC, &end);
	FILE *file = fopen(out, "w");
	if (!file)
		fail(out);
	fprintf(file, "%lld %lld %lld %ld %d\n",
		(end.tv_sec - begin.tv_sec) * 1000000000LL + end.tv_nsec - begin.tv_nsec,
		usage.ru_utime.tv_sec * 1000000LL + usage.ru_utime.tv_usec,
		usage.ru_stime.tv_sec * 1000000LL + usage.ru_stime.tv_usec, usage.ru_maxrss,
		WIFEXITED(status) ? WEXITSTATUS(status) : 128);
	return fclose(file) ? 1 : 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	if (!strcmp(what, "measure") && argc > 3)
		return measure(argv[2], argv + 3);
	if (!strcmp(what, "copy") && argc == 4)
		return copy(argv[2], argv[3]);
	if (!strcmp(what, "sync")) {
		sync_tree(argv[2]);
		return 0;
	}
	if (!strcmp(what, "read") || !strcmp(what, "bare")) {
		summing = !strcmp(what, "read");
		for (int i = 2; i < argc; i++)
			walk(argv[i]);
		run(read_files);
		return 0;
	}
	fprintf(stderr, "usage: yardstick read|bare|copy|sync|measure ...\n");
	return 2;
}
