import Foundation

/// Swift concurrency. Its threads are Dispatch's.
extension Rows {
    private actor Counter {
        private var count = 0

        func add(_ number: Int, staying microseconds: Int = 0) -> Int {
            if microseconds > 0 { Clock.hold(microseconds: microseconds) }
            count += number
            return count
        }
    }

    /// The parent's, and the child's own.
    @globalActor private actor ParentActor { static let shared = ParentActor() }
    @globalActor private actor ChildActor { static let shared = ChildActor() }

    @ParentActor private static var parentCount = 0
    @ChildActor private static var childCount = 0
    @MainActor private static var mainCount = 0

    @ParentActor private static func addForParent(_ number: Int) -> Int {
        parentCount += number
        return parentCount
    }

    @ChildActor private static func addForChild(_ number: Int) -> Int {
        childCount += number
        return childCount
    }

    @MainActor private static func addForMain(_ number: Int) -> Int {
        mainCount += number
        return mainCount
    }

    @TaskLocal private static var local = 0

    static let concurrency: [Row] = tasks + actors + waits + inherited

    // ---- tasks ----

    private static let tasks: [Row] = [
        Row.aging("task", "A task that starts another, and yields.") { number in
            let done = Latch<Int>()
            Task {
                await Task.yield()
                done.give(await Task { number + 1 }.value)
            }
            return done.wait() == number + 1
        },
        Row.aging("task-detached", "Detached tasks of all priorities.") { number in
            inTask {
                let priorities: [TaskPriority] = [.background, .utility, .medium, .high]
                let parts = priorities.enumerated().map { part, priority in Task.detached(priority: priority) { number * part } }
                var sum = 0
                for part in parts { sum += await part.value }
                return sum == number * 6
            }
        },
        Row.aging("task-local", "A task-local value that a child task inherits.") { number in
            inTask {
                await $local.withValue(number) {
                    async let inherited = local
                    let own = await Task.detached { local }.value
                    return await inherited == number && own == 0
                }
            }
        },
        Row.aging("task-group", "Task groups: one that sums, one that throws, one that discards.") { number in
            inTask { await sumInGroups(number) }
        },
        Row.aging("async-let", "async let.") { number in
            inTask {
                async let first = Task.detached { number }.value
                async let second = twice(number)
                return await first + second == number * 3
            }
        },
        Row.aging("cancellation", "A sleeping task that is cancelled, a group of them, and a handler that is told.") { number in
            inTask { await cancel(number) }
        },
        Row.aging("task-fork", "A fork from inside a task, which goes on in the child with a task, a group and a sleep.") {
            let work: @Sendable (Int) async -> Bool = { number in
                let value = await Task { number + 1 }.value
                let isSummed = await sumInGroups(number)
                try? await Task.sleep(for: .milliseconds(1))
                return value == number + 1 && isSummed
            }
            return Hazard(
                hammers: 2,
                hammer: { hammer, number in hammer.inside { Row.expect(inTask { await work(Int(number)) }, "task-fork") } },
                check: { index in inTask { await work(index) } },
                checkInTask: work)
        },
    ]

    private static func twice(_ number: Int) async -> Int {
        await Task.yield()
        return number * 2
    }

    private static func sumInGroups(_ number: Int) async -> Bool {
        let sum = await withTaskGroup(of: Int.self) { group in
            for part in [number, 1, 0] { group.addTask { await twice(part) } }
            return await group.reduce(0, +)
        }
        let thrown = try? await withThrowingTaskGroup(of: Int.self) { group in
            group.addTask { throw CancellationError() }
            return try await group.next()
        }
        let count = Flag()
        await withDiscardingTaskGroup { group in
            for _ in 0..<3 { group.addTask { count.add() } }
        }
        return sum == number * 2 + 2 && thrown == nil && count.value == 3
    }

    /// Sleeps of a second only: Dispatch keeps the timer of one that was cancelled, and this is done in a tight loop.
    private static func cancel(_ number: Int) async -> Bool {
        let sleeper = Task {
            do {
                try await Task.sleep(for: .seconds(1))
                return 0
            } catch {
                return error is CancellationError ? number : 0
            }
        }
        sleeper.cancel()
        let cancelled = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<3 { group.addTask { (try? await Task.sleep(for: .seconds(1))) == nil } }
            group.cancelAll()
            return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        let handled = Flag()
        let waiter = Task {
            await withTaskCancellationHandler {
                while !handled.isSet { await Task.yield() }
            } onCancel: {
                handled.set()
            }
        }
        waiter.cancel()
        await waiter.value
        return await sleeper.value == number && cancelled == 3 && handled.isSet
    }

    // ---- actors ----

    private static let actors: [Row] = [
        Row.aging("actor", "An actor of one's own, called by several tasks.") { number in
            inTask {
                let counter = Counter()
                await withTaskGroup(of: Void.self) { group in
                    for _ in 0..<4 { group.addTask { _ = await counter.add(number) } }
                }
                return await counter.add(1) == number * 4 + 1
            }
        },
        Row.aging("actor-inherited-idle", "An actor that the parent has used, and that nobody is in.") {
            let counter = Counter()
            Row.expect(inTask { await counter.add(2) == 2 }, "actor-inherited-idle")
            return Hazard(
                hammers: 2,
                hammer: { hammer, number in
                    let other = Counter()
                    hammer.inside { Row.expect(inTask { await other.add(Int(number)) == Int(number) }, "actor-inherited-idle") }
                },
                check: { index in inTask { await counter.add(index) == index + 2 } })
        },
        Row.aging("actor-busy", "An actor that the parent's tasks are in.") {
            let counter = Counter()
            return Hazard(
                hammers: 2,
                hammer: { hammer, _ in
                    hammer.inside { Row.expect(inTask { await counter.add(1, staying: 200) > 0 }, "actor-busy") }
                },
                check: { _ in
                    inTask {
                        let before = await counter.add(0)
                        return await counter.add(1) == before + 1
                    }
                })
        }.refusing(.whenBusy),
        Row.aging("global-actor", "A global actor that the parent has not used, while it uses another.") {
            Hazard(
                hammers: 2,
                hammer: { hammer, _ in hammer.inside { Row.expect(inTask { await addForParent(1) > 0 }, "global-actor") } },
                check: { index in inTask { await addForChild(index + 1) == index + 1 } })
        },
        Row.aging("main-actor", "The main actor, whose queue the parent's main thread serves, and the child's own.", drainsMain: true) {
            Hazard(
                hammers: 2,
                hammer: { hammer, _ in hammer.inside { Row.expect(inTask { await addForMain(1) > 0 }, "main-actor") } },
                check: { index in
                    Task.detached {
                        let before = await addForMain(0)
                        let after = await MainActor.run { addForMain(index + 1) }
                        Subject.end(after == before + index + 1)
                    }
                    dispatchMain()
                })
        },
    ]

    // ---- waiting ----

    private static let waits: [Row] = [
        Row.aging("sleep-continuous", "Task.sleep on the continuous clock, and for nanoseconds.") { number in
            inTask {
                let start = ContinuousClock.now
                try? await Task.sleep(for: .milliseconds(1), clock: .continuous)
                try? await Task.sleep(nanoseconds: 1_000_000)
                return ContinuousClock.now - start >= .milliseconds(2)
            }
        },
        Row.aging("sleep-suspending", "Task.sleep on the suspending clock.") { number in
            inTask {
                let start = SuspendingClock.now
                try? await Task.sleep(until: start + .milliseconds(1), clock: .suspending)
                return SuspendingClock.now - start >= .milliseconds(1)
            }
        },
        Row.aging("async-stream", "An AsyncStream between two tasks.") { number in
            inTask {
                let (stream, continuation) = AsyncStream.makeStream(of: Int.self)
                Task {
                    for part in 0..<4 {
                        continuation.yield(number + part)
                        await Task.yield()
                    }
                    continuation.finish()
                }
                return await stream.reduce(0, +) == number * 4 + 6
            }
        },
        Row.aging("continuation", "A task that a thread by pthread resumes.") { number in
            inTask {
                var thread: SystemThread?
                let value = await withCheckedContinuation { continuation in
                    thread = SystemThread("resumes") { continuation.resume(returning: number + 1) }
                }
                thread?.join()
                return value == number + 1
            }
        },
    ]

    // ---- tasks of the parent ----

    private static let inherited: [Row] = [
        ofParent("task-of-parent-finished", "A task that finished in the parent.") { _ in
            let task = Task { 7 }
            Row.expect(inTask { await task.value == 7 }, "task-of-parent-finished")
            return { await task.value }
        },
        ofParent("task-of-parent", "A task that runs in the parent.") { mayEnd in
            let isRunning = Flag()
            let task = Task {
                isRunning.set()
                await stay(until: mayEnd)
                return 7
            }
            isRunning.wait()
            return { await task.value }
        }.refusing(.whenUsed),
        ofParent("task-of-parent-throwing", "A task that may throw and runs in the parent.") { mayEnd in
            let isRunning = Flag()
            let task = Task {
                isRunning.set()
                await stay(until: mayEnd)
                try Task.checkCancellation()
                return 7
            }
            isRunning.wait()
            return { try await task.value }
        }.refusing(.whenUsed),
        ofParent("task-of-parent-sleeping", "A task that sleeps in the parent.") { mayEnd in
            let isRunning = Flag()
            let task = Task {
                isRunning.set()
                while !mayEnd.isSet { try await Task.sleep(for: .milliseconds(200)) }
                return 7
            }
            isRunning.wait()
            return { try await task.value }
        }.refusing(.whenUsed),
        ofParent("task-of-parent-suspended", "A task that is suspended in the parent; the child resumes it.") { _ in
            let suspended = Latch<CheckedContinuation<Int, Never>>()
            let task = Task { await withCheckedContinuation { suspended.give($0) } }
            let continuation = suspended.wait()
            return {
                continuation.resume(returning: 7)
                return await task.value
            }
        },
    ]

    /// A row about a task that the parent starts and the child waits for: `make` starts it, and returns how to wait for its value, which
    /// is 7. It runs until the flag is set: never in a parent that forks; alone, where it is the child's own, so that the check proves to
    /// be right.
    private static func ofParent(
        _ name: String, _ about: String, make: @escaping @Sendable (Flag) -> @Sendable () async throws -> Int
    ) -> Row {
        Row.aging(name, about) {
            let mayEnd = Flag()
            let maker = getpid()
            let value = make(mayEnd)
            return Hazard(
                hammers: 2,
                hammer: { hammer, number in
                    hammer.inside { Row.expect(inTask { await twice(Int(number)) == Int(number) * 2 }, name) }
                },
                check: { _ in
                    if getpid() == maker { mayEnd.set() }
                    let result = Latch<Result<Int, any Error>>()
                    Task.detached {
                        do { result.give(.success(try await value())) } catch { result.give(.failure(error)) }
                    }
                    return try result.wait().get() == 7
                })
        }
    }

    /// Nearly always on a thread; not for ever, as there may be one only.
    private static func stay(until mayEnd: Flag) async {
        while !mayEnd.isSet {
            Clock.hold(microseconds: 200)
            await Task.yield()
        }
    }

    /// Runs it in a task, and waits for it on this thread.
    private static func inTask(_ body: @escaping @Sendable () async -> Bool) -> Bool {
        let latch = Latch<Bool>()
        Task.detached { latch.give(await body()) }
        return latch.wait()
    }
}
