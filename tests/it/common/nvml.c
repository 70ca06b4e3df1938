/* A stand-in for libnvidia-ml.so.1, with the functions that maitred calls and no GPU behind them.
 *
 * What they answer stands in the file ANSWERS, a path given when this is compiled. It is read anew at each call, so that
 * a test can change it in mid-run. A line is KEY=VALUE; VALUE may be !CODE, an NVML error, or HANG: the call does not return while
 * that is in the file, and says in a file ANSWERS.hangs that it is under way.
 *
 *   init=!9                   nvmlInit_v2 fails
 *   driver=550.54
 *   count=2
 *   0.uuid=GPU-a              0.name=Stand-in
 *   0.utilization=37          percent
 *   0.memory=1000 8000 500    used and total bytes, and those that the driver keeps for itself (0 if left out)
 *   0.power=251000            milliwatts
 *   0.temperature=61
 *
 * A key that is missing answers that it is not supported. As with a driver, a GPU that was lost (error 15) stays lost
 * until the library is released and initialized again.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, LOST = 15, VERSION = 25 };
enum { MOST = 16 };

struct memory {
    unsigned version;
    unsigned long long total, reserved, free, used;
};

struct utilization {
    unsigned gpu, memory;
};

static int users;
static int lost[MOST];

/* The value of a key; an error of NVML if there is none, or if it is one. */
static int value(const char *key, char *found, size_t size) {
    for (;;) {
        FILE *file = fopen(ANSWERS, "r");
        int there = 0;
        char line[256];
        size_t length = strlen(key);
        if (!file) return NOT_SUPPORTED;
        while (!there && fgets(line, sizeof line, file)) {
            line[strcspn(line, "\n")] = 0;
            there = !strncmp(line, key, length) && line[length] == '=';
        }
        fclose(file);
        if (!there) return NOT_SUPPORTED;
        if (line[length + 1] == '!') return atoi(line + length + 2);
        if (strcmp(line + length + 1, "HANG")) {
            snprintf(found, size, "%s", line + length + 1);
            return SUCCESS;
        }
        /* Whoever waits for it sees that the call is under way. */
        if ((file = fopen(ANSWERS ".hangs", "w"))) fclose(file);
        usleep(5000);
    }
}

static int count(void) {
    char text[32];
    return value("count", text, sizeof text) == SUCCESS ? atoi(text) : 0;
}

/* The same of a GPU. A handle is its place, counted from 1. */
static int of(void *device, const char *what, char *found, size_t size) {
    char key[64];
    int index = (int)(long)device - 1, code;
    if (!users) return UNINITIALIZED;
    if (index < 0 || index >= MOST) return INVALID;
    if (lost[index]) return LOST;
    snprintf(key, sizeof key, "%d.%s", index, what);
    code = value(key, found, size);
    if (code == LOST) lost[index] = 1;
    return code;
}

static int number(void *device, const char *what, unsigned *to) {
    char text[64];
    int code = of(device, what, text, sizeof text);
    if (code == SUCCESS) *to = (unsigned)atoi(text);
    return code;
}

static int text_of(void *device, const char *what, char *to, unsigned size) {
    char text[128];
    int code = of(device, what, text, sizeof text);
    if (code != SUCCESS) return code;
    if (strlen(text) >= size) return TOO_SMALL;
    strcpy(to, text);
    return SUCCESS;
}

int nvmlInit_v2(void) {
    char text[32];
    int code = value("init", text, sizeof text);
    if (code != SUCCESS && code != NOT_SUPPORTED) return code;
    if (!users++) memset(lost, 0, sizeof lost);
    return SUCCESS;
}

int nvmlShutdown(void) {
    if (!users) return UNINITIALIZED;
    users--;
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *to, unsigned size) {
    return users ? value("driver", to, size) : UNINITIALIZED;
}

int nvmlDeviceGetCount_v2(unsigned *to) {
    *to = (unsigned)count();
    return users ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **to) {
    if (!users) return UNINITIALIZED;
    if ((int)index >= count()) return INVALID;
    *to = (void *)(long)(index + 1);
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **to) {
    int index;
    char found[128];
    if (!users) return UNINITIALIZED;
    for (index = 0; index < count(); index++) {
        void *device = (void *)(long)(index + 1);
        int code = of(device, "uuid", found, sizeof found);
        if (code == SUCCESS && !strcmp(found, uuid)) {
            *to = device;
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(void *device, char *to, unsigned size) { return text_of(device, "uuid", to, size); }

int nvmlDeviceGetName(void *device, char *to, unsigned size) { return text_of(device, "name", to, size); }

int nvmlDeviceGetUtilizationRates(void *device, struct utilization *to) {
    return number(device, "utilization", &to->gpu);
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *to) { return number(device, "power", to); }

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *to) {
    return sensor ? INVALID : number(device, "temperature", to);
}

/* The structure says how large it is and of which version. */
int nvmlDeviceGetMemoryInfo_v2(void *device, struct memory *to) {
    char text[64];
    int code = of(device, "memory", text, sizeof text);
    if (to->version != (sizeof *to | 2u << 24)) return VERSION;
    if (code != SUCCESS) return code;
    to->reserved = 0;
    if (sscanf(text, "%llu %llu %llu", &to->used, &to->total, &to->reserved) < 2) return INVALID;
    to->free = to->total - to->used - to->reserved;
    return SUCCESS;
}
