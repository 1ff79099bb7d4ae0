/* A libnvidia-ml.so.1 for machines without a GPU: the symbols that pynvml calls, scripted.
 *
 * FAKE_NVML names a text file that is read anew when it was changed, so that a test can change the
 * machine while it is watched. (It is looked at every 5 ms, since a look costs as much as all else
 * that a call does, and what asking costs is measured too.) One statement a line:
 *
 *   driver VERSION
 *   device UUID TOTAL_BYTES NAME…        devices are numbered from 0 in order of appearance
 *   mig DEVICE UUID TOTAL_BYTES NAME…    an instance of a device, numbered among the devices
 *   migmode DEVICE                       MIG is on, also without an instance
 *   memory DEVICE AT_S BYTES             a step of the curve, seconds since nvmlInit;
 *                                        the last step whose time has come counts
 *   utilization DEVICE PERCENT
 *   power DEVICE MILLIWATTS
 *   instant DEVICE MILLIWATTS            power of this moment: a field that newer drivers have
 *   temperature DEVICE CELSIUS
 *   clock DEVICE MHZ
 *   throttle DEVICE BITS
 *   process DEVICE PID BYTES             BYTES -1: "not available", as without permission;
 *                                        the last line of a PID counts
 *   process DEVICE NAME BYTES            the child of the asking process with that name, while
 *                                        there is one
 *   error FUNCTION DEVICE CODE AFTER     the (AFTER+1)th and later calls give CODE
 *   hang FUNCTION DEVICE SECONDS AFTER   the (AFTER+1)th call takes so long
 *
 * FUNCTION is init, memory, utilization, power, instant, temperature, clock, throttle or
 * processes.
 * What no statement gives is "not supported", but memory (0 bytes) and processes (none). As on a
 * real GPU, an instance gives its memory and processes only, and a device with MIG no utilization.
 *
 * Build: gcc -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 fake_nvml.c
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6 };
enum { INSUFFICIENT_SIZE = 7, UNKNOWN = 999 };
static const double LOOK_EVERY_S = 0.005;
enum { MAX_DEVICES = 16, MAX_PROCESSES = 64, MAX_STEPS = 1024, MAX_FAULTS = 64 };

enum { INIT, MEMORY, UTILIZATION, POWER, INSTANT, TEMPERATURE, CLOCK, THROTTLE, PROCESSES, FUNCTIONS };
static const char *const names[FUNCTIONS] = {"init",        "memory", "utilization", "power",
                                             "instant",     "temperature", "clock",  "throttle",
                                             "processes"};

typedef struct { unsigned pid; unsigned long long used; unsigned gpu, compute; } Process;

typedef struct {
    char uuid[96], name[96];
    int parent; /* of an instance; -1 for a device */
    int mig;
    unsigned long long total;
    long long value[FUNCTIONS]; /* -1 where no statement gives it */
    unsigned processes;
    Process process[MAX_PROCESSES];
    char process_name[MAX_PROCESSES][16]; /* empty where the script gives the pid */
} Device;

typedef struct { unsigned device; double at; unsigned long long bytes; } Step;
typedef struct { int function; unsigned device; int code; double hang; int after; } Fault;

static Device devices[MAX_DEVICES];
static Step steps[MAX_STEPS];
static Fault faults[MAX_FAULTS];
static unsigned count, step_count, fault_count;
static char driver[80];
static double started;
static int calls[FUNCTIONS][MAX_DEVICES];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int function_of(const char *name) {
    for (int f = 0; f < FUNCTIONS; f++)
        if (!strcmp(names[f], name)) return f;
    return -1;
}

static void add_device(int parent, const char *uuid, unsigned long long total, const char *name) {
    Device *device = &devices[count++];
    memset(device, 0, sizeof *device);
    for (int f = 0; f < FUNCTIONS; f++) device->value[f] = -1;
    device->parent = parent;
    device->total = total;
    strncpy(device->uuid, uuid, sizeof device->uuid - 1);
    strncpy(device->name, name, sizeof device->name - 1);
    if (parent >= 0) devices[parent].mig = 1;
}

static void add_process(Device *device, const char *who, long long bytes) {
    unsigned i = 0, pid = (unsigned)strtoul(who, NULL, 10);
    const char *name = pid ? "" : who;
    while (i < device->processes
           && (device->process[i].pid != pid || strcmp(device->process_name[i], name)))
        i++;
    if (i == MAX_PROCESSES) return;
    if (i == device->processes) device->processes++;
    snprintf(device->process_name[i], sizeof device->process_name[i], "%s", name);
    /* -1 is NVML's NOT_AVAILABLE */
    device->process[i] = (Process){pid, (unsigned long long)bytes, 0xFFFFFFFFu, 0xFFFFFFFFu};
}

static void statement(const char *line) {
    char word[64], text[96];
    unsigned d;
    unsigned long long total;
    long long a;
    double at;
    int after, used = 0;
    if (sscanf(line, "driver %79s", driver) == 1) return;
    if (sscanf(line, "device %95s %llu %n", text, &total, &used) == 2 && count < MAX_DEVICES)
        add_device(-1, text, total, line + used);
    else if (sscanf(line, "mig %u %95s %llu %n", &d, text, &total, &used) == 3 && d < count
             && count < MAX_DEVICES)
        add_device((int)d, text, total, line + used);
    else if (sscanf(line, "migmode %u", &d) == 1 && d < count)
        devices[d].mig = 1;
    else if (sscanf(line, "memory %u %lf %lld", &d, &at, &a) == 3 && step_count < MAX_STEPS)
        steps[step_count++] = (Step){d, at, (unsigned long long)a};
    else if (sscanf(line, "process %u %15s %lld", &d, word, &a) == 3 && d < count)
        add_process(&devices[d], word, a);
    else if (sscanf(line, "error %63s %u %lld %d", word, &d, &a, &after) == 4
               && fault_count < MAX_FAULTS)
        faults[fault_count++] = (Fault){function_of(word), d, (int)a, 0, after};
    else if (sscanf(line, "hang %63s %u %lf %d", word, &d, &at, &after) == 4
             && fault_count < MAX_FAULTS)
        faults[fault_count++] = (Fault){function_of(word), d, SUCCESS, at, after};
    else if (sscanf(line, "%63s %u %lld", word, &d, &a) == 3 && d < count && function_of(word) > 0)
        devices[d].value[function_of(word)] = a;
}

/* Reads the script, if it is another one than at the last call. */
static int script(void) {
    static struct stat seen;
    static double looked = -1;
    struct stat now_is;
    const char *path = getenv("FAKE_NVML");
    char line[512];
    FILE *file;
    if (looked >= 0 && now() - looked < LOOK_EVERY_S) return SUCCESS;
    if (!path || stat(path, &now_is)) return UNKNOWN;
    if (now_is.st_ino == seen.st_ino && now_is.st_size == seen.st_size
        && now_is.st_mtim.tv_sec == seen.st_mtim.tv_sec
        && now_is.st_mtim.tv_nsec == seen.st_mtim.tv_nsec) {
        looked = now();
        return SUCCESS;
    }
    if (!(file = fopen(path, "r"))) return UNKNOWN;
    seen = now_is;
    count = step_count = fault_count = 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        statement(line);
    }
    fclose(file);
    looked = now();
    return SUCCESS;
}

/* What this call of `function` on a device must return. */
static int play_at(int function, unsigned device) {
    int call = calls[function][device]++, result = script();
    for (unsigned i = 0; i < fault_count && result == SUCCESS; i++) {
        const Fault *fault = &faults[i];
        if (fault->function != function || fault->device != device) continue;
        if (fault->hang > 0 && call == fault->after) {
            double left = fault->hang;
            nanosleep(&(struct timespec){(time_t)left, (long)((left - (time_t)left) * 1e9)}, NULL);
        }
        if (fault->code != SUCCESS && call >= fault->after) result = fault->code;
    }
    return result;
}

static int play(int function, const Device *device) {
    return play_at(function, (unsigned)(device - devices));
}

/* A plain number that a device gives. */
static int number_of(int function, const Device *device, long long *value) {
    int result = play(function, device);
    *value = device->value[function];
    return result == SUCCESS && *value < 0 ? NOT_SUPPORTED : result;
}

static int unsigned_of(int function, const Device *device, unsigned *value) {
    long long number;
    int result = number_of(function, device, &number);
    *value = result == SUCCESS ? (unsigned)number : 0;
    return result;
}

static unsigned long long used_by(const Device *device) {
    unsigned long long used = 0;
    double elapsed = now() - started;
    for (unsigned i = 0; i < step_count; i++)
        if (steps[i].device == (unsigned)(device - devices) && elapsed >= steps[i].at)
            used = steps[i].bytes;
    return used;
}

/* The index-th device of a parent; -1 is the machine. */
static int find(int parent, unsigned index, Device **device) {
    for (unsigned i = 0; i < count; i++)
        if (devices[i].parent == parent && index-- == 0) {
            *device = &devices[i];
            return SUCCESS;
        }
    return parent < 0 ? INVALID_ARGUMENT : NOT_FOUND;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    started = now();
    return play_at(INIT, 0);
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
    *number = 0;
    for (unsigned i = 0; i < count; i++) *number += devices[i].parent < 0;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    return find(-1, index, device);
}

int nvmlDeviceGetUUID(Device *device, char *uuid, unsigned length) {
    snprintf(uuid, length, "%s", device->uuid);
    return SUCCESS;
}

int nvmlDeviceGetName(Device *device, char *name, unsigned length) {
    snprintf(name, length, "%s", device->name);
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(Device *device, unsigned *rates) {
    rates[1] = 0;
    return device->mig ? NOT_SUPPORTED : unsigned_of(UTILIZATION, device, &rates[0]);
}

int nvmlDeviceGetPowerUsage(Device *device, unsigned *milliwatts) {
    return unsigned_of(POWER, device, milliwatts);
}

int nvmlDeviceGetTemperature(Device *device, int sensor, unsigned *celsius) {
    return sensor ? INVALID_ARGUMENT : unsigned_of(TEMPERATURE, device, celsius);
}

int nvmlDeviceGetClockInfo(Device *device, int type, unsigned *mhz) {
    return type != 1 ? INVALID_ARGUMENT : unsigned_of(CLOCK, device, mhz); /* 1: the SM's */
}

int nvmlDeviceGetCurrentClocksThrottleReasons(Device *device, unsigned long long *bits) {
    long long number;
    int result = number_of(THROTTLE, device, &number);
    *bits = result == SUCCESS ? (unsigned long long)number : 0;
    return result;
}

int nvmlDeviceGetMemoryInfo(Device *device, unsigned long long *memory /* total, free, used */) {
    int result = play(MEMORY, device);
    memory[0] = device->total;
    memory[2] = used_by(device);
    memory[1] = memory[0] - memory[2];
    return result;
}

#ifndef OLD_DRIVER /* an old driver lacks what follows: fields, MIG, process lists */
typedef struct {
    unsigned field, scope;
    long long timestamp, latency;
    unsigned type;
    int result;
    union { double d; unsigned ui; unsigned long long ull; } value;
} Field;

int nvmlDeviceGetFieldValues(Device *device, int number, Field *fields) {
    for (int i = 0; i < number; i++)
        fields[i].result = fields[i].field != 186 /* NVML_FI_DEV_POWER_INSTANT */
                               ? NOT_SUPPORTED
                               : unsigned_of(INSTANT, device, &fields[i].value.ui);
    return SUCCESS;
}

int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    *current = *pending = (unsigned)device->mig;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *number) {
    *number = device->mig ? 7 : 0;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **instance) {
    return find((int)(device - devices), index, instance);
}

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;

int nvmlDeviceGetMemoryInfo_v2(Device *device, MemoryV2 *memory) {
    int result = play(MEMORY, device);
    memory->total = device->total;
    memory->reserved = 0;
    memory->used = used_by(device);
    memory->free = device->total - memory->used;
    return result;
}

static int is_child(const char *pid, const char *name) {
    char path[300], comm[16] = "", state = 'Z';
    int parent = 0;
    FILE *file;
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    if (!strtoul(pid, NULL, 10) || !(file = fopen(path, "r"))) return 0;
    if (fscanf(file, "%*d (%15[^)]) %c %d", comm, &state, &parent) != 3) parent = 0;
    fclose(file);
    return parent == getpid() && state != 'Z' && !strcmp(comm, name);
}

/* The pid of our child of that name; 0 where there is none. */
static unsigned child(const char *name) {
    static char found[256]; /* the last answer, since looking for it is slow */
    DIR *folder;
    struct dirent *entry;
    if (!is_child(found, name)) {
        *found = 0;
        folder = opendir("/proc");
        while (folder && !*found && (entry = readdir(folder)))
            if (is_child(entry->d_name, name)) snprintf(found, sizeof found, "%s", entry->d_name);
        if (folder) closedir(folder);
    }
    return (unsigned)strtoul(found, NULL, 10);
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *number, Process *list) {
    /* pynvml asks twice, for the size and for the list; it is one call to the script. */
    int result = list ? SUCCESS : play(PROCESSES, device);
    unsigned room = *number, listed = 0;
    *number = device->processes;
    if (result != SUCCESS) return result;
    if (device->processes == 0) return SUCCESS;
    if (!list || room < device->processes) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < device->processes; i++) {
        list[listed] = device->process[i];
        if (*device->process_name[i]) list[listed].pid = child(device->process_name[i]);
        listed += list[listed].pid != 0;
    }
    *number = listed;
    return SUCCESS;
}
#endif
