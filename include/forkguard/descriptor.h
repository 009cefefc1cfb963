// What becomes of an inherited descriptor: tombstone, reopen, keep.
//
// A descriptor's number says nothing about what it stands for: closed by one thread, it is the next connection of another; inherited by a child, it
// is the parent's connection, file offset or epoll set. A token stands for one opening of one number in one process, and for nothing else.

#ifndef FORKGUARD_DESCRIPTOR_H
#define FORKGUARD_DESCRIPTOR_H

#include "base.h"
#include "generation.h"

FORKGUARD_BEGIN

/// What a child finds under the number.
enum forkguard_policy {
    /// Nothing: an O_PATH descriptor (open(2)), on which every read, write, lseek, send and epoll_ctl fails with EBADF or ENOTSOCK, and which keeps the
    /// number from being handed out again. The peer and the parent notice nothing. For connections and epoll sets.
    FORKGUARD_TOMBSTONE = 0,
    /// The same file, opened anew with the same flags and at the same offset, which is the child's own from then on. A tombstone where that fails. For files.
    FORKGUARD_REOPEN = 1,
    /// The same descriptor, shared. For sockets that listen, and pipes to the parent.
    FORKGUARD_KEEP = 2,
};

/// A token. Copies stand for the same opening. Plain data: in a child it is inherited, and known to be the parent's.
typedef struct forkguard_descriptor {
    int number;
    uint64_t serial;     // of the opening
    uint64_t generation; // that it was adopted in
} forkguard_descriptor_t;

/// Takes over the open descriptor `number`: from now on only the token closes it. An earlier token of that number is stale from now on: somebody closed it
/// behind our back. 0, EBADF when the number is not open, EINVAL for an unknown policy, EMFILE for a number of 1,048,576 or more, ENOMEM. Any thread.
///
/// A fork between the call that opened it and this one leaves an unknown descriptor in the child: hold it off meanwhile, by a lock of ForkGuard's.
int forkguard_descriptor_adopt(int number, uint32_t policy, forkguard_descriptor_t *FORKGUARD_NONNULL token);

/// Begins a use: until `forkguard_descriptor_leave` the number stays this opening's, also when another thread closes it. 0; ESTALE when it is another
/// process's and not kept; EBADF when it was closed. No system call. Any thread, any side of a fork. At most 16,777,214 uses at once, else EAGAIN.
int forkguard_descriptor_enter(const forkguard_descriptor_t *FORKGUARD_NONNULL token);
/// Ends a use. The last one of a closed descriptor closes its number: errno is kept. A use that began before a fork must not be ended in its child, which
/// counts its own only.
void forkguard_descriptor_leave(const forkguard_descriptor_t *FORKGUARD_NONNULL token);

/// Closes: no use can begin from now on, and the number is closed (close(2)) by this call or by the use that ends last. A socket in use is shut down
/// first, so that its users wake, unless it is kept. Forks wait for a close(2) that waits (SO_LINGER). 0, EBADF when it was closed already. In a child an inherited one's tombstone is removed (its number may be handed out
/// again), with no system call on what the parent has; where there is no tombstone, after a fork that ran no handlers, the token is merely given up. Any thread,
/// any side of a fork.
int forkguard_descriptor_close(const forkguard_descriptor_t *FORKGUARD_NONNULL token);

/// Gives up the number without closing it: it is the caller's again. 0, ESTALE, EBADF; EBUSY while it is in use.
int forkguard_descriptor_release(const forkguard_descriptor_t *FORKGUARD_NONNULL token);

/// How many descriptors are registered. A snapshot.
size_t forkguard_descriptor_count(void);

FORKGUARD_END

#endif
