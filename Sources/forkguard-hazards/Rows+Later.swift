import Dispatch
import Foundation

#if canImport(FoundationNetworking)
    import FoundationNetworking
#endif

/// Dispatch, Swift concurrency, and what of Foundation stands on them: shown, not promised. Their state ages: one fork for each parent.
extension Rows {
    private actor Counter {
        private var count = 0
        func add(_ number: Int) -> Int {
            count += number
            return count
        }
    }

    private static func later(
        _ name: String, _ about: String, _ operation: @escaping @Sendable (Int) -> Int
    ) -> Row {
        // The answer is computed from the number, so that a right one was made for this question.
        Row.operation(name, about, group: .later, forksPerSubject: 1, hammers: 2) { number in
            let question = Int(truncatingIfNeeded: number & 0xffff_ffff)
            return operation(question) == question + 1
        }
    }

    /// Runs it in a task, and waits for it on this thread.
    private static func inTask(_ body: @escaping @Sendable () async -> Int) -> Int {
        let latch = Latch()
        Task.detached { latch.give(await body()) }
        return latch.wait()
    }

    static let later: [Row] = [
        later("dispatch-queue", "A global queue, and a serial one of one's own.") { number in
            let latch = Latch()
            DispatchQueue.global().async { latch.give(number) }
            let serial = DispatchQueue(label: "hazard")
            let second = Latch()
            serial.async { second.give(1) }
            return latch.wait() + second.wait()
        },
        later("dispatch-group", "A DispatchGroup over a global queue.") { number in
            let group = DispatchGroup()
            let count = Flag()
            for _ in 0..<4 { DispatchQueue.global().async(group: group) { count.add() } }
            group.wait()
            return number + count.value - 3
        },
        later("dispatch-timer", "A timer of Dispatch.") { number in
            let latch = Latch()
            let timer = DispatchSource.makeTimerSource(queue: .global())
            timer.schedule(deadline: .now() + .milliseconds(1))
            timer.setEventHandler { latch.give(number + 1) }
            timer.resume()
            defer { timer.cancel() }
            return latch.wait()
        },
        later("task", "A detached task that sleeps for a moment.") { number in
            inTask {
                try? await Task.sleep(for: .milliseconds(1))
                return number + 1
            }
        },
        later("actor", "A call of an actor.") { number in
            let counter = Counter()
            return inTask {
                _ = await counter.add(number)
                return await counter.add(1)
            }
        },
        later("task-group", "A task group.") { number in
            inTask {
                await withTaskGroup(of: Int.self) { group in
                    for part in [number, 1, 0] { group.addTask { part } }
                    return await group.reduce(0, +)
                }
            }
        },
        later("async-let", "async let.") { number in
            inTask {
                async let first = Task.detached { number }.value
                async let second = Task.detached { 1 }.value
                return await first + second
            }
        },
        later("operation-queue", "An OperationQueue.") { number in
            let queue = OperationQueue()
            let count = Flag()
            for _ in 0..<3 { queue.addOperation { count.add() } }
            queue.waitUntilAllOperationsAreFinished()
            return number + count.value - 2
        },
        later("url-session", "A URLSession that is refused by a port of this machine.") { number in
            let session = URLSession(configuration: .ephemeral)
            defer { session.invalidateAndCancel() }
            let latch = Latch()
            // Nobody listens there.
            let task = session.dataTask(with: URL(string: "http://127.0.0.1:1/")!) { _, _, error in
                latch.give((error as? URLError)?.code == .cannotConnectToHost ? 1 : 2)
            }
            task.resume()
            return number + latch.wait()
        },
        later("process", "A Process of Foundation's that runs a shell.") { number in
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/bin/sh")
            process.arguments = ["-c", "exit 7"]
            guard (try? process.run()) != nil else { return -1 }
            process.waitUntilExit()
            return number + Int(process.terminationStatus) - 6
        },
        later("timer-run-loop", "A Timer on a thread's RunLoop.") { number in
            let fired = Flag()
            let timer = Timer(timeInterval: 0.001, repeats: false) { _ in fired.set() }
            RunLoop.current.add(timer, forMode: .default)
            // Ends with the timer, as there is nothing else to wait for; a limit that is near would wake it all the same.
            while !fired.isSet { _ = RunLoop.current.run(mode: .default, before: Date(timeIntervalSinceNow: 60)) }
            return number + fired.value
        },
        later("file-handle", "A FileHandle that is read when there is something.") { number in
            let pipe = Pipe()
            let latch = Latch()
            pipe.fileHandleForReading.readabilityHandler = { handle in
                handle.readabilityHandler = nil
                latch.give(handle.availableData.count)
            }
            try? pipe.fileHandleForWriting.write(contentsOf: Data([1]))
            return number + latch.wait()
        },
    ]
}
