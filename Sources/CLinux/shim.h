#ifndef HOLDFAST_CLINUX_SHIM_H
#define HOLDFAST_CLINUX_SHIM_H

// What Linux has and Swift's Glibc module, which is made without _GNU_SOURCE, leaves out.

#include <sys/eventfd.h>

/// setns(2): moves the calling thread into a namespace.
extern int setns(int descriptor, int kind);

/// The kind "network namespace" (linux/sched.h).
static const int CLONE_NEWNET = 0x40000000;

#endif
