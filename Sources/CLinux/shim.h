// What Linux has and Swift's Glibc module leaves out.
#ifndef HOLDFAST_CLINUX_SHIM_H
#define HOLDFAST_CLINUX_SHIM_H

#include <sys/eventfd.h>

// <sched.h> shows this one to programs with _GNU_SOURCE only, and the Glibc module is built without.
extern int setns(int fd, int nstype);

#endif
