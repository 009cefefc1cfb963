import Dispatch
import ForkGuard
import Foundation
import Synchronization

/// Locks that another thread has at the fork, in short turns.
extension Rows {
    static let locks: [Row] = [
        held("mutex-held", "Synchronization.Mutex, held by another thread.", hammers: 2) { _ in
            let mutex = SharedMutex()
            return { body in mutex.value.withLock { _ in body() } }
        }.refusing(.whenBusy),
        held("mutex-waiters", "Synchronization.Mutex, held by another thread, with more asleep on it.", hammers: 4, pauses: false) { _ in
            let mutex = SharedMutex()
            return { body in mutex.value.withLock { _ in body() } }
        }.refusing(.whenBusy),
        Row("mutex-contended", "Synchronization.Mutex that two threads of the child want; the forking thread has used it before.") { _ in
            let mutex = SharedMutex()
            mutex.value.withLock { $0 += 1 }
            let parents = SharedMutex()
            return Hazard(
                hammers: 3,
                hammer: { hammer, _ in hammer.inside { parents.value.withLock { $0 += 1 } } },
                check: { _ in
                    let start = mutex.value.withLock { $0 }
                    for round in 1...3 {
                        let comes = Flag()
                        let second = mutex.value.withLock { number in
                            let second = SystemThread("second") {
                                comes.set()
                                mutex.value.withLock { $0 += 1 }
                            }
                            comes.wait()
                            // That it sleeps on the mutex is not to be seen from here.
                            Clock.hold(microseconds: 1000)
                            number += 1
                            return second
                        }
                        second?.join()
                        if mutex.value.withLock({ $0 }) != start + 2 * round { return false }
                    }
                    return true
                })
        },
        held("nslock", "NSLock, held by another thread.", hammers: 2) { _ in
            let lock = NSLock()
            return { body in lock.withLock(body) }
        },
        held("nsrecursivelock", "NSRecursiveLock, held by another thread.", hammers: 2) { _ in
            let lock = NSRecursiveLock()
            return { body in
                lock.lock()
                lock.lock()
                body()
                lock.unlock()
                lock.unlock()
            }
        },
        Row("nscondition", "NSCondition, held by another thread, with more in wait().") { _ in
            let condition = NSCondition()
            let protected = Protected()
            return Hazard(
                hammers: 3,
                hammer: { hammer, number in
                    condition.lock()
                    if number % 3 == 0 {
                        // Woken by the others; the limit is for the parent that is idle.
                        hammer.inside { _ = condition.wait(until: Date(timeIntervalSinceNow: 0.02)) }
                    } else {
                        hammer.inside { protected.change() }
                        condition.broadcast()
                    }
                    condition.unlock()
                },
                check: { _ in
                    let isReady = Flag()
                    let second = SystemThread("second") {
                        condition.lock()
                        isReady.set()
                        condition.broadcast()
                        condition.unlock()
                    }
                    condition.lock()
                    while !isReady.isSet { condition.wait() }
                    let isWhole = protected.isWhole()
                    condition.unlock()
                    second?.join()
                    return isWhole
                })
        },
        held("dispatch-semaphore", "DispatchSemaphore as a lock, taken by another thread; registered when guarded.", hammers: 2) { column in
            let semaphore = SemaphoreLock()
            if column == .guarded { ForkGuard.register(lock: semaphore) }
            return { body in
                semaphore.lock()
                body()
                semaphore.unlock()
            }
        },
        held("pthread-mutex", "pthread_mutex_t of a C library, held by another thread.", hammers: 2) { _ in
            let mutex = CMemory<pthread_mutex_t> { pthread_mutex_init($0, nil) }
            return { body in
                pthread_mutex_lock(mutex.pointer)
                body()
                pthread_mutex_unlock(mutex.pointer)
            }
        },
        held("pthread-rwlock", "pthread_rwlock_t, held by another thread for writing.", hammers: 2) { _ in
            let lock = CMemory<pthread_rwlock_t> { pthread_rwlock_init($0, nil) }
            return { body in
                pthread_rwlock_wrlock(lock.pointer)
                body()
                pthread_rwlock_unlock(lock.pointer)
            }
        },
        Row("pthread-rwlock-read", "pthread_rwlock_t, held by other threads for reading; the child writes.") { _ in
            let lock = CMemory<pthread_rwlock_t> { pthread_rwlock_init($0, nil) }
            let protected = Protected()
            return Hazard(
                hammers: 2,
                hammer: { hammer, _ in
                    pthread_rwlock_rdlock(lock.pointer)
                    hammer.inside { Clock.hold(microseconds: 400) }
                    pthread_rwlock_unlock(lock.pointer)
                    Clock.hold(microseconds: 50)
                },
                check: { _ in
                    pthread_rwlock_wrlock(lock.pointer)
                    defer { pthread_rwlock_unlock(lock.pointer) }
                    return protected.isWhole()
                })
        },
        Row("pthread-cond", "pthread_cond_t with threads of the parent in wait; the child uses it with one of its own.") { _ in
            let mutex = CMemory<pthread_mutex_t> { pthread_mutex_init($0, nil) }
            let condition = CMemory<pthread_cond_t> { pthread_cond_init($0, nil) }
            return Hazard(
                hammers: 4,
                hammer: { hammer, number in
                    pthread_mutex_lock(mutex.pointer)
                    if number % 4 != 0 {
                        var limit = timespec()
                        clock_gettime(CLOCK_REALTIME, &limit)
                        limit.tv_nsec += 20_000_000
                        if limit.tv_nsec >= 1_000_000_000 {
                            limit.tv_sec += 1
                            limit.tv_nsec -= 1_000_000_000
                        }
                        hammer.inside { _ = pthread_cond_timedwait(condition.pointer, mutex.pointer, &limit) }
                        pthread_mutex_unlock(mutex.pointer)
                    } else {
                        pthread_mutex_unlock(mutex.pointer)
                        hammer.inside { _ = pthread_cond_broadcast(condition.pointer) }
                        Clock.hold(microseconds: 100)
                    }
                },
                check: { _ in
                    // Often enough to go round both groups of waiters that glibc keeps.
                    let round = Flag()
                    let second = SystemThread("second") {
                        for _ in 1...5 {
                            pthread_mutex_lock(mutex.pointer)
                            round.add()
                            pthread_cond_broadcast(condition.pointer)
                            pthread_mutex_unlock(mutex.pointer)
                            sched_yield()
                        }
                    }
                    pthread_mutex_lock(mutex.pointer)
                    while round.value < 5 { pthread_cond_wait(condition.pointer, mutex.pointer) }
                    pthread_mutex_unlock(mutex.pointer)
                    second?.join()
                    return round.value == 5
                })
        },
        Row("pthread-once", "pthread_once that another thread is in the middle of.") { _ in
            // A new one for each turn; the child does the one that is being done.
            let current = Current { pthread_once_t(PTHREAD_ONCE_INIT) }
            return Hazard(
                hammers: 1,
                hammer: { hammer, _ in
                    let once = current.advance()
                    hammer.inside { pthread_once(once) { Clock.hold(microseconds: 500) } }
                },
                check: { _ in
                    let once = current.now
                    pthread_once(once) { Clock.hold(microseconds: 500) }
                    // Done for good: a second call does not run it.
                    return pthread_once(once) { _exit(Subject.wrong) } == 0
                })
        },
        Row("cxx-static", "A static variable of a C++ function that another thread is in the middle of making.") { _ in
            let cxx = CxxGuard()
            let current = Current { UInt64(0) }
            return Hazard(
                hammers: 1,
                hammer: { hammer, _ in
                    let variable = current.advance()
                    hammer.inside { cxx.make(variable) { Clock.hold(microseconds: 500) } }
                },
                check: { _ in
                    let variable = current.now
                    cxx.make(variable) {}
                    return cxx.isMade(variable)
                })
        },
    ]

    /// A row about a lock that is held: `make` returns how to run something inside of it.
    private static func held(
        _ name: String, _ about: String, hammers: Int, pauses: Bool = true,
        make: @escaping @Sendable (Column) -> @Sendable (() -> Void) -> Void
    ) -> Row {
        Row(name, about) { column in
            let within = make(column)
            let protected = Protected()
            within { Row.expect(protected.isWhole(), name) }
            return Hazard(
                hammers: hammers,
                hammer: { hammer, _ in
                    within { hammer.inside { protected.change() } }
                    // A guarded fork that has to try such a lock finds a moment.
                    if pauses { Clock.hold(microseconds: 50) }
                },
                check: { _ in
                    var isWhole = false
                    within { isWhole = protected.isWhole() }
                    return isWhole
                })
        }
    }
}
