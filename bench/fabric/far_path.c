/* A path between two network namespaces: a delay, a rate with a queue of bounded length, random losses.
 *
 *   far_path NAMESPACE NAMESPACE DELAY_US LOSS_PPM MBIT_PER_S QUEUE_US SEED
 *
 * Makes the TUN interface `far` in each, says "up", and carries packets until it is ended. `tc netem`, which would do
 * the same, is not in every kernel. One process, no locks; what comes later than it should is late for both ways alike.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { PACKETS = 1 << 14, BYTES = 1600, BATCH = 64 };

typedef struct {
    int from, to;
    uint64_t free_at;
    unsigned head, tail;
    uint64_t due[PACKETS];
    int size[PACKETS];
    unsigned char data[PACKETS][BYTES];
} Way;

static Way ways[2];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int interface_in(const char *namespace)
{
    char path[128];
    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    int place = open(path, O_RDONLY | O_CLOEXEC), device;
    if (place < 0 || setns(place, CLONE_NEWNET))
        fail(path);
    close(place);
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI, .ifr_name = "far"};
    device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (device < 0 || ioctl(device, TUNSETIFF, &request))
        fail("/dev/net/tun");
    return device;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int main(int count, char **words)
{
    if (count != 8)
        return 2;
    uint64_t delay = strtoull(words[3], NULL, 10) * 1000, queue = strtoull(words[6], NULL, 10) * 1000;
    double loss = atof(words[4]) / 1e6, ns_per_byte = 8000.0 / atof(words[5]);
    srand48(atol(words[7]));
    int first = interface_in(words[1]), second = interface_in(words[2]);
    ways[0].from = ways[1].to = first;
    ways[0].to = ways[1].from = second;
    struct sched_param urgent = {.sched_priority = 10};
    if (sched_setscheduler(0, SCHED_FIFO, &urgent))
        perror("SCHED_FIFO"); /* goes on: but a path that waits for the processor is no path */
    puts("up");
    fflush(stdout);
    for (;;) {
        uint64_t now = now_ns(), next = now + 5000000;
        for (Way *way = ways; way < ways + 2; way++) {
            for (; way->head != way->tail; way->head++) {
                unsigned slot = way->head % PACKETS;
                if (way->due[slot] > now) {
                    next = way->due[slot] < next ? way->due[slot] : next;
                    break;
                }
                if (write(way->to, way->data[slot], (size_t)way->size[slot]) < 0) {
                    /* the interface is not up yet, or its queue is full: lost */
                }
            }
        }
        struct pollfd polled[2] = {{first, POLLIN, 0}, {second, POLLIN, 0}};
        now = now_ns();
        struct timespec pause = {0, (long)(next > now ? next - now : 0)};
        ppoll(polled, 2, &pause, NULL);
        for (Way *way = ways; way < ways + 2; way++) {
            for (int taken = 0; taken < BATCH && way->tail - way->head < PACKETS; taken++) {
                unsigned slot = way->tail % PACKETS;
                ssize_t size = read(way->from, way->data[slot], BYTES);
                if (size <= 0)
                    break;
                now = now_ns();
                if (way->free_at < now)
                    way->free_at = now;
                if (drand48() < loss || way->free_at - now > queue)
                    continue;
                way->free_at += (uint64_t)((double)size * ns_per_byte);
                way->due[slot] = way->free_at + delay;
                way->size[slot] = (int)size;
                way->tail++;
            }
        }
    }
}
