/* A libnvidia-ml.so.1 for machines without a GPU: the symbols that pynvml calls, scripted.
 *
 * FAKE_NVML names a text file that is read anew at every call, so that a test can change the
 * machine while it is watched. One statement a line:
 *
 *   driver VERSION
 *   device UUID TOTAL_BYTES NAME…        devices are numbered from 0 in order of appearance
 *   memory DEVICE AT_S BYTES             a step of the curve, seconds since nvmlInit;
 *                                        the last step whose time has come counts
 *   utilization DEVICE PERCENT
 *   power DEVICE MILLIWATTS
 *   process DEVICE PID BYTES             BYTES -1: "not available", as without permission
 *   error FUNCTION DEVICE CODE AFTER     the (AFTER+1)th and later calls give CODE; FUNCTION is
 *                                        init, memory, utilization, power or processes
 *
 * Build: gcc -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 fake_nvml.c
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, INSUFFICIENT_SIZE = 7, UNKNOWN = 999 };
enum { MAX_DEVICES = 8, MAX_PROCESSES = 64 };

typedef struct { unsigned pid; unsigned long long used; unsigned gpu, compute; } Process;

typedef struct {
    char uuid[96], name[96];
    unsigned long long total, used;
    unsigned utilization, power, processes;
    Process process[MAX_PROCESSES];
} Device;

static Device devices[MAX_DEVICES];
static unsigned count;
static char driver[80];
static double started;
static int calls[5][MAX_DEVICES];
static const char *const functions[5] = {"init", "memory", "utilization", "power", "processes"};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Reads the script and returns what this call of `function` on `device` must give. */
static int play(int function, unsigned device) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512], word[64];
    unsigned d, number;
    unsigned long long total;
    long long bytes;
    double at;
    int code, after, consumed, result = SUCCESS, call = calls[function][device]++;
    if (!file) return UNKNOWN;
    memset(devices, 0, sizeof devices);
    count = 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "driver %79s", driver) == 1) continue;
        if (count < MAX_DEVICES
            && sscanf(line, "device %95s %llu %n", devices[count].uuid, &total, &consumed) == 2) {
            devices[count].total = total;
            strncpy(devices[count].name, line + consumed, sizeof devices[count].name - 1);
            count++;
        } else if (sscanf(line, "memory %u %lf %lld", &d, &at, &bytes) == 3 && d < MAX_DEVICES) {
            if (now() - started >= at) devices[d].used = (unsigned long long)bytes;
        } else if (sscanf(line, "utilization %u %u", &d, &number) == 2 && d < MAX_DEVICES) {
            devices[d].utilization = number;
        } else if (sscanf(line, "power %u %u", &d, &number) == 2 && d < MAX_DEVICES) {
            devices[d].power = number;
        } else if (sscanf(line, "process %u %u %lld", &d, &number, &bytes) == 3
                   && d < MAX_DEVICES && devices[d].processes < MAX_PROCESSES) {
            Process *p = &devices[d].process[devices[d].processes++];
            p->pid = number;
            p->used = (unsigned long long)bytes; /* -1 is NVML's NOT_AVAILABLE */
            p->gpu = p->compute = 0xFFFFFFFFu;
        } else if (sscanf(line, "error %63s %u %d %d", word, &d, &code, &after) == 4) {
            if (!strcmp(word, functions[function]) && d == device && call >= after) result = code;
        }
    }
    fclose(file);
    return result;
}

static int play_on(int function, Device *device) {
    return play(function, (unsigned)(device - devices));
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    started = now();
    return play(0, 0);
}

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) {
    (void)code;
    return "an error of the scripted NVML";
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    snprintf(version, length, "%s", driver);
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *number) {
    *number = count;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    if (index >= count) return INVALID_ARGUMENT;
    *device = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetUUID(Device *device, char *uuid, unsigned length) {
    snprintf(uuid, length, "%s", device->uuid);
    return SUCCESS;
}

int nvmlDeviceGetName(Device *device, char *name, unsigned length) {
    snprintf(name, length, "%s", device->name);
    return SUCCESS;
}

#ifndef OLD_DRIVER /* drivers before 510 lack the two below */
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;

int nvmlDeviceGetMemoryInfo_v2(Device *device, MemoryV2 *memory) {
    int result = play_on(1, device);
    memory->total = device->total;
    memory->reserved = 0;
    memory->used = device->used;
    memory->free = device->total - device->used;
    return result;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *number, Process *list) {
    /* pynvml asks twice, for the size and for the list; it is one call to the script. */
    int result = list ? SUCCESS : play_on(4, device);
    unsigned room = *number;
    *number = device->processes;
    if (result != SUCCESS) return result;
    if (device->processes == 0) return SUCCESS;
    if (!list || room < device->processes) return INSUFFICIENT_SIZE;
    memcpy(list, device->process, device->processes * sizeof *list);
    return SUCCESS;
}
#endif

typedef struct { unsigned long long total, free, used; } Memory;

int nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
    int result = play_on(1, device);
    memory->total = device->total;
    memory->used = device->used;
    memory->free = device->total - device->used;
    return result;
}

int nvmlDeviceGetUtilizationRates(Device *device, unsigned *rates) {
    int result = play_on(2, device);
    rates[0] = device->utilization;
    rates[1] = 0;
    return result;
}

int nvmlDeviceGetPowerUsage(Device *device, unsigned *milliwatts) {
    int result = play_on(3, device);
    *milliwatts = device->power;
    return result;
}
