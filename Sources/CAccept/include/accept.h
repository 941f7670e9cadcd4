#ifndef HOLDFAST_ACCEPT_H
#define HOLDFAST_ACCEPT_H

/// What the gRPC core's listeners take at most: a connection that would get this descriptor, or a higher one, is closed at
/// once. The kernel gives the lowest that is free, so at least as many are open then.
void caccept_set_first_refused(int descriptor);

/// Connections that were closed so since the process began.
unsigned long caccept_refused(void);

#endif
