#ifndef HOLDFAST_INTERPOSE_H
#define HOLDFAST_INTERPOSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// What the gRPC core's listeners take at most: a connection that would get this descriptor, or a higher one, is closed at
/// once. The kernel gives the lowest that is free, so at least as many are open then.
void cinterpose_set_first_refused(int descriptor);

/// Connections that were closed so since the process began.
unsigned long cinterpose_refused(void);

/// How many streams a client may have open on a connection, whatever it has acknowledged: one with more is disconnected. And
/// how many of its calls may not have ended here, those whose streams were reset among them: what it opens beyond is ignored.
void cinterpose_set_most_streams(size_t open, size_t unended);

/// What a frame of headers may have, whatever the client has acknowledged, as GRPC_ARG_MAX_METADATA_SIZE counts it. Whatever
/// this is, the headers of a call are four frames and 32 KiB on their way at most: who sends more is disconnected.
void cinterpose_set_most_headers(uint32_t bytes);

/// A call of whatever connection has ended.
void cinterpose_call_ended(void);

/// What the calling thread replies until the end is held for a moment, so that replies to one client share packets: all but
/// the first two to each, of which every eighth lets all go, and to 16 clients at most. In between the thread does nothing
/// else, and waits for nothing. False where it has begun before.
bool cinterpose_begin_replies(void);

/// What is still held goes out. May come without a beginning.
void cinterpose_end_replies(void);

#ifdef __cplusplus
}
#endif

#endif
