/*
 * yardstick: what the machine can do at best, in plain C, and what any program takes.
 *
 *   yardstick read DIR...          sums every regular file: inode order, two threads, read-ahead
 *   yardstick bare DIR...          the same without the sums
 *   yardstick lean LEFT RIGHT      reads both trees and compares what has one name, as leanly as can be
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

/*
 * The lean reader: two threads; each takes a directory that both trees have or one of them has, lists it,
 * and reads its files: one openat from the directory, one read where the buffer holds the file, one
 * close; no stat, no sums, no order. What has the same name up to a colon (Maildir's flags follow it)
 * is compared byte by byte.
 */
enum { LEAN_BUFFER = 32 * 1024 };

struct task {
	char *sides[2]; /* NULL: this tree has no such directory */
	struct task *next;
};

struct name {
	char *text;
	size_t base;
	int is_dir;
};

static pthread_mutex_t lean_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t lean_more = PTHREAD_COND_INITIALIZER;
static struct task *lean_tasks;
static size_t lean_busy;
static atomic_ullong lean_files, lean_differ;

static void push_task(const char *const parents[2], const struct name *const names[2])
{
	struct task *task = calloc(1, sizeof *task);
	for (int side = 0; side < 2; side++)
		if (names[side] && asprintf(&task->sides[side], "%s/%s", parents[side], names[side]->text) < 0)
			fail("asprintf");
	pthread_mutex_lock(&lean_lock);
	task->next = lean_tasks;
	lean_tasks = task;
	pthread_cond_signal(&lean_more);
	pthread_mutex_unlock(&lean_lock);
}

static int by_base(const void *left, const void *right)
{
	const struct name *a = left, *b = right;
	int order = memcmp(a->text, b->text, a->base < b->base ? a->base : b->base);
	return order ? order : (a->base > b->base) - (a->base < b->base);
}

static size_t list_names(const char *path, DIR **dir, struct name **names)
{
	size_t count = 0, room = 0;
	*names = NULL;
	*dir = path ? opendir(path) : NULL;
	if (path && !*dir)
		fail(path);
	for (struct dirent *it; *dir && (it = readdir(*dir));) {
		if (!strcmp(it->d_name, ".") || !strcmp(it->d_name, ".."))
			continue;
		if (it->d_type != DT_DIR && it->d_type != DT_REG)
			continue;
		if (count == room)
			*names = realloc(*names, (room = room ? room * 2 : 64) * sizeof **names);
		struct name *name = &(*names)[count++];
		name->text = strdup(it->d_name);
		name->base = strcspn(name->text, ":");
		name->is_dir = it->d_type == DT_DIR;
	}
	if (count)
		qsort(*names, count, sizeof **names, by_base);
	return count;
}

static int open_at(DIR *dir, const struct name *name)
{
	if (!name || name->is_dir)
		return -1;
	int fd = openat(dirfd(dir), name->text, O_RDONLY | O_NOATIME | O_NOFOLLOW);
	if (fd < 0)
		fail(name->text);
	return fd;
}

static void compare(const int fds[2], unsigned char *buffers[2])
{
	int same = 1, more = 1;
	while (more) {
		ssize_t lengths[2] = {0, 0};
		more = 0;
		for (int side = 0; side < 2; side++) {
			if (fds[side] < 0)
				continue;
			lengths[side] = read(fds[side], buffers[side], LEAN_BUFFER);
			if (lengths[side] < 0)
				fail("read");
			more |= lengths[side] == LEAN_BUFFER;
		}
		same = same && lengths[0] == lengths[1] && !memcmp(buffers[0], buffers[1], lengths[0]);
		atomic_fetch_add(&total_bytes, lengths[0] + lengths[1]);
	}
	for (int side = 0; side < 2; side++)
		if (fds[side] >= 0) {
			close(fds[side]);
			atomic_fetch_add(&lean_files, 1);
		}
	atomic_fetch_add(&lean_differ, !same);
}

static void read_pair_of_dirs(const struct task *task, unsigned char *buffers[2])
{
	DIR *dirs[2];
	struct name *names[2];
	size_t counts[2], at[2] = {0, 0};
	for (int side = 0; side < 2; side++)
		counts[side] = list_names(task->sides[side], &dirs[side], &names[side]);
	while (at[0] < counts[0] || at[1] < counts[1]) {
		struct name *both[2] = {NULL, NULL};
		int order = at[0] == counts[0] ? 1 : at[1] == counts[1] ? -1
			: by_base(&names[0][at[0]], &names[1][at[1]]);
		if (order <= 0)
			both[0] = &names[0][at[0]++];
		if (order >= 0)
			both[1] = &names[1][at[1]++];
		if ((both[0] && both[0]->is_dir) || (both[1] && both[1]->is_dir))
			push_task((const char *const *)task->sides, (const struct name *const *)both);
		const int fds[2] = {open_at(dirs[0], both[0]), open_at(dirs[1], both[1])};
		if (fds[0] >= 0 || fds[1] >= 0)
			compare(fds, buffers);
		for (int side = 0; side < 2; side++)
			if (both[side])
				free(both[side]->text);
	}
	for (int side = 0; side < 2; side++) {
		free(names[side]);
		if (dirs[side])
			closedir(dirs[side]);
	}
}

static void *read_leanly(void *unused)
{
	unsigned char *buffers[2] = {malloc(LEAN_BUFFER), malloc(LEAN_BUFFER)};
	pthread_mutex_lock(&lean_lock);
	for (;;) {
		while (!lean_tasks && lean_busy)
			pthread_cond_wait(&lean_more, &lean_lock);
		struct task *task = lean_tasks;
		if (!task)
			break;
		lean_tasks = task->next;
		lean_busy++;
		pthread_mutex_unlock(&lean_lock);
		read_pair_of_dirs(task, buffers);
		free(task->sides[0]);
		free(task->sides[1]);
		free(task);
		pthread_mutex_lock(&lean_lock);
		lean_busy--;
	}
	pthread_cond_broadcast(&lean_more);
	pthread_mutex_unlock(&lean_lock);
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
	if (entry_count)
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
	if (!strcmp(what, "lean") && argc == 4) {
		lean_tasks = calloc(1, sizeof *lean_tasks);
		lean_tasks->sides[0] = strdup(argv[2]);
		lean_tasks->sides[1] = strdup(argv[3]);
		run(read_leanly);
		printf("%llu files read, %llu differ or are on one side only\n",
		       (unsigned long long)lean_files, (unsigned long long)lean_differ);
		return 0;
	}
	if (!strcmp(what, "read") || !strcmp(what, "bare")) {
		summing = !strcmp(what, "read");
		for (int i = 2; i < argc; i++)
			walk(argv[i]);
		run(read_files);
		return 0;
	}
	fprintf(stderr, "usage: yardstick read|bare|lean|copy|sync|measure ...\n");
	return 2;
}
