import Dispatch
import Foundation

/// Dispatch.
extension Rows {
    static let dispatch: [Row] = [
        Row.aging("dispatch-global", "The global queues.") { number in
            let classes: [DispatchQoS.QoSClass] = [.background, .utility, .default, .userInitiated, .userInteractive]
            let parts = classes.enumerated().map { part, quality in
                let latch = Latch<Int>()
                DispatchQueue.global(qos: quality).async { latch.give(number + part) }
                return latch
            }
            return parts.reduce(0) { $0 + $1.wait() } == number * 5 + 10
        },
        Row.aging("dispatch-serial-async", "A serial queue of one's own, asynchronously: one after the other.") { number in
            doesInOrder(DispatchQueue(label: "hazard"), number)
        },
        Row.aging("dispatch-serial-sync", "A serial queue of one's own, synchronously, free and behind others.") { number in
            isSynchronous(DispatchQueue(label: "hazard"), number)
        },
        Row.aging("dispatch-concurrent", "A concurrent queue of one's own, and a barrier.") { number in
            let queue = DispatchQueue(label: "hazard", attributes: .concurrent)
            let count = Flag()
            let atBarrier = Latch<Int>()
            for _ in 0..<4 { queue.async { count.add() } }
            queue.async(flags: .barrier) { atBarrier.give(count.value + number) }
            for _ in 0..<4 { queue.async { count.add() } }
            return atBarrier.wait() == number + 4 && queue.sync(flags: .barrier) { count.value } == 8
        },
        Row.aging("dispatch-main", "The main queue, which the parent's main thread serves, and the child's own.", drainsMain: true) {
            Hazard(
                hammers: 2,
                hammer: { hammer, number in
                    hammer.inside {
                        let latch = Latch<UInt64>()
                        DispatchQueue.main.async { latch.give(number) }
                        Row.expect(latch.wait() == number, "dispatch-main")
                    }
                },
                check: { _ in
                    let count = Flag()
                    for _ in 0..<3 { DispatchQueue.main.async { count.add() } }
                    DispatchQueue.global().async { DispatchQueue.main.async { Subject.end(count.value == 3) } }
                    dispatchMain()
                })
        },
        Row.aging("dispatch-group", "A DispatchGroup over a global queue, waited for and notifying.") { number in
            let group = DispatchGroup()
            let count = Flag()
            for _ in 0..<4 { DispatchQueue.global().async(group: group) { count.add() } }
            let notified = Latch<Int>()
            group.notify(queue: .global()) { notified.give(number + count.value) }
            group.wait()
            return count.value == 4 && notified.wait() == number + 4
        },
        Row.aging("dispatch-after", "A block after a millisecond.") { number in
            let latch = Latch<Int>()
            let start = DispatchTime.now()
            DispatchQueue.global().asyncAfter(deadline: start + .milliseconds(1)) { latch.give(number) }
            return latch.wait() == number && DispatchTime.now() >= start + .milliseconds(1)
        },
        Row.aging("dispatch-concurrent-perform", "DispatchQueue.concurrentPerform.") { number in
            let count = Flag()
            DispatchQueue.concurrentPerform(iterations: 64) { _ in count.add() }
            return count.value == 64
        },
        Row.aging("dispatch-timer", "A timer that repeats.") { number in
            let ticks = Flag()
            let latch = Latch<Int>()
            let timer = DispatchSource.makeTimerSource(queue: DispatchQueue(label: "hazard"))
            timer.schedule(deadline: .now() + .milliseconds(1), repeating: .milliseconds(1))
            timer.setEventHandler {
                ticks.add()
                if ticks.value == 3 { timer.cancel() }
            }
            timer.setCancelHandler { latch.give(number + ticks.value) }
            timer.resume()
            return latch.wait() == number + 3
        },
        Row.aging("dispatch-read-source", "A source that tells when there is something to read.") { number in
            guard let ends = try? Descriptors.pipe() else { return false }
            let heard = Latch<UInt8>()
            let isCancelled = Latch<Bool>()
            let source = DispatchSource.makeReadSource(fileDescriptor: ends.read, queue: .global())
            source.setEventHandler {
                var byte: UInt8 = 0
                if read(ends.read, &byte, 1) == 1 { heard.give(byte) }
                source.cancel()
            }
            source.setCancelHandler { isCancelled.give(true) }
            source.resume()
            var byte = UInt8(truncatingIfNeeded: number)
            let isWritten = write(ends.write, &byte, 1) == 1
            let isRight = heard.wait() == byte && isCancelled.wait()
            // Not before: Dispatch watches the descriptor until then.
            close(ends.read)
            close(ends.write)
            return isWritten && isRight
        },
        Row.aging("dispatch-semaphore-signal", "A DispatchSemaphore that a block signals.") { number in
            let semaphore = DispatchSemaphore(value: 0)
            let count = Flag()
            for _ in 0..<3 {
                DispatchQueue.global().async {
                    count.add()
                    semaphore.signal()
                }
            }
            for _ in 0..<3 { semaphore.wait() }
            return count.value == 3 && semaphore.wait(timeout: .now()) == .timedOut
        },
        Row.aging("queue-inherited-idle", "A serial queue that the parent has used, and that has nothing to do.") {
            let queue = DispatchQueue(label: "hazard")
            Row.expect(doesInOrder(queue, 2) && isSynchronous(queue, 2), "queue-inherited-idle")
            return Hazard(
                hammers: 2,
                hammer: { hammer, number in
                    hammer.inside { Row.expect(doesInOrder(DispatchQueue(label: "other"), Int(number)), "queue-inherited-idle") }
                },
                check: { index in isSynchronous(queue, index) && doesInOrder(queue, index) })
        },
        Row.aging("queue-busy", "A serial queue that is in the middle of a block of the parent's.") {
            let queue = DispatchQueue(label: "hazard")
            return Hazard(
                hammers: 2,
                hammer: { hammer, number in
                    hammer.inside {
                        queue.async { Clock.hold(microseconds: 200) }
                        Row.expect(doesInOrder(queue, Int(number)), "queue-busy")
                    }
                },
                check: { index in isSynchronous(queue, index) && doesInOrder(queue, index) })
        }.refusing(.whenBusy),
    ]

    private static func doesInOrder(_ queue: DispatchQueue, _ number: Int) -> Bool {
        let last = Flag()
        let latch = Latch<Int>()
        for step in 0..<4 { queue.async { if last.value == step { last.set(step + 1) } } }
        queue.async { latch.give(number + last.value) }
        return latch.wait() == number + 4
    }

    private static func isSynchronous(_ queue: DispatchQueue, _ number: Int) -> Bool {
        let free = queue.sync { number + 1 }
        let isDone = Flag()
        queue.async { isDone.set() }
        return free == number + 1 && queue.sync { isDone.isSet }
    }
}
