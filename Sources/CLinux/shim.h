#ifndef HOLDFAST_CLINUX_SHIM_H
#define HOLDFAST_CLINUX_SHIM_H

// What glibc declares only under _GNU_SOURCE, which its module for Swift is made without.

/// setns(2): moves the calling thread into a namespace.
int setns(int descriptor, int kind);

/// The kind "network namespace" (linux/sched.h).
static const int CLONE_NEWNET = 0x40000000;

#endif
