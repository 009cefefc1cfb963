// Is a pool worth it? Requests a second to a memcached through a pool with a connection for each thread, and through one locked connection;
// and how long a fork takes meanwhile.
//
//     swift run -c release pool-or-lock 127.0.0.1:11211

import ForkGuard
import Glibc
import MemcachedClient
import Wire

let rounds = 9
let span = Duration.milliseconds(400)
let forks = 5
let processors = sysconf(Int32(_SC_NPROCESSORS_ONLN))

func end(_ message: String, _ status: Int32) -> Never {
    let line = "\(message)\n"
    write(STDERR_FILENO, line, line.utf8.count)
    exit(status)
}

struct Round {
    var requestsPerSecond: Double
    var forkMicroseconds: [Double]
}

func microseconds(_ duration: Duration) -> Double { duration / .microseconds(1) }

func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

func padded(_ value: Double, _ width: Int, decimals: Bool = false) -> String {
    let text = decimals ? "\((value * 100).rounded() / 100)" : "\(Int(value.rounded()))"
    return String(repeating: " ", count: max(0, width - text.count)) + text
}

/// Threads that read one value, for a while; then the same once more with forks.
func measure(_ client: MemcachedClient, threads: Int) throws -> Round {
    let requests = ForkMutex(0, name: "requests")
    let stopped = ForkMutex(false, name: "stopped")
    let failure = ForkMutex<String?>(nil, name: "failure")
    let running = (1...threads).map { _ in
        Thread {
            var done = 0
            do {
                while !stopped.withLock({ $0 }) {
                    for _ in 1...20 { _ = try client.get("pool-or-lock") }
                    done += 20
                    if done >= 200 {
                        requests.withLock { [done] in $0 += done }
                        done = 0
                    }
                }
            } catch {
                failure.withLock { $0 = "\(error)" }
            }
        }
    }
    // Until each has a connection.
    usleep(50_000)
    let before = requests.withLock { $0 }
    let begin = ContinuousClock.now
    usleep(UInt32(microseconds(span)))
    let done = requests.withLock { $0 } - before
    let seconds = (ContinuousClock.now - begin) / .seconds(1)
    var forkTimes: [Double] = []
    for _ in 1...forks {
        let begin = ContinuousClock.now
        let child = try ForkGuard.fork { 0 }
        forkTimes.append(microseconds(ContinuousClock.now - begin))
        try child.wait(timeout: .seconds(10))
    }
    stopped.withLock { $0 = true }
    running.forEach { $0.join() }
    if let failure = failure.withLock({ $0 }) { end("pool-or-lock: \(failure)", 1) }
    return Round(requestsPerSecond: Double(done) / seconds, forkMicroseconds: forkTimes)
}

let address = CommandLine.arguments.dropFirst().first?.split(separator: ":") ?? []
guard CommandLine.arguments.count == 2, address.count == 2, let port = UInt16(address[1]) else {
    end("usage: pool-or-lock HOST:PORT, of a memcached", 64)
}

do {
    let server = try ServerAddress(host: String(address[0]), port: port)
    print(
        "get of 100 bytes, medians of \(rounds) interleaved rounds of \(span), \(rounds * forks) forks each; \(processors) processors"
    )
    print("          requests a second                    a fork takes, µs")
    print("threads        pool    locked  pool / locked       pool    locked")
    for threads in [1, 4, 16] {
        let pool = try MemcachedClient(to: server, .pool(maximum: threads))
        let locked = try MemcachedClient(to: server, .locked)
        try pool.set("pool-or-lock", to: Array(repeating: 1, count: 100))
        var pools: [Round] = []
        var locks: [Round] = []
        for _ in 1...rounds {
            pools.append(try measure(pool, threads: threads))
            locks.append(try measure(locked, threads: threads))
        }
        let rates = (median(pools.map(\.requestsPerSecond)), median(locks.map(\.requestsPerSecond)))
        let forkTimes = (median(pools.flatMap(\.forkMicroseconds)), median(locks.flatMap(\.forkMicroseconds)))
        print(
            padded(Double(threads), 7) + padded(rates.0, 12) + padded(rates.1, 10) + padded(rates.0 / rates.1, 15, decimals: true)
                + padded(forkTimes.0, 11) + padded(forkTimes.1, 10))
        pool.close()
        locked.close()
    }
} catch {
    end("pool-or-lock: \(error)", 1)
}
