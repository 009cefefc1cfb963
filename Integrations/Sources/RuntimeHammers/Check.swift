import Foundation
import Synchronization

/// In the child of fork number `index`, on the thread that was forked: does what the load does. Returns what gave a wrong result.
package func check(_ load: Load, _ index: Int) -> Load {
    var wrong: Load = []
    // Types that no parent has: theirs begin with another one.
    if load.contains(.types) {
        for number in 0..<20 where makeType(Int8.self, UInt64(index * 20 + number), depth: 20, of: 0) != 3 { wrong.insert(.types) }
    }
    if load.contains(.lazyGlobals) {
        let begun = index % lazyGlobalsOfParents, own = lazyGlobals.count - 1
        if lazyGlobals[begun]() != begun &* 7 &+ 1 || lazyGlobals[own]() != own &* 7 &+ 1 { wrong.insert(.lazyGlobals) }
    }
    if load.contains(.lock) {
        lock.lock()
        lock.unlock()
    }
    if load.contains(.mutex) && !contend() { wrong.insert(.mutex) }
    if load.contains(.tasks) && !useTasks() { wrong.insert(.tasks) }
    return wrong
}

private let mutex = Mutex<Int>(0)

/// After it the calling thread has its id cached, where this file's other uses of a mutex find it: the cache is a static
/// variable of a C header, of which each object file has its own.
@inline(never)
func useMutex() { mutex.withLock { $0 += 0 } }

private let oneContender = Atomic<Int32>(0)
private let otherContender = Atomic<Int32>(0)

/// Two new threads sleep for a mutex that this one has.
private func contend() -> Bool {
    var threads = (pthread_t(), pthread_t())
    let before = mutex.withLock { value in
        precondition(pthread_create(&threads.0, nil, { _ in contend(oneContender) }, nil) == 0)
        precondition(pthread_create(&threads.1, nil, { _ in contend(otherContender) }, nil) == 0)
        waitUntilAsleep(oneContender)
        waitUntilAsleep(otherContender)
        value += 1
        return value
    }
    pthread_join(threads.0, nil)
    pthread_join(threads.1, nil)
    return mutex.withLock { $0 } == before + 2
}

private func contend(_ contender: borrowing Atomic<Int32>) -> UnsafeMutableRawPointer? {
    // "PROCESS/task/THREAD"
    var link = [UInt8](repeating: 0, count: 64)
    let length = readlink("/proc/thread-self", &link, link.count)
    let number = String(decoding: link.prefix(length), as: UTF8.self).split(separator: "/").last.flatMap { Int32($0) }
    contender.store(number ?? -1, ordering: .releasing)
    mutex.withLock { $0 += 1 }
    return nil
}

/// After the thread has said who it is there is nothing that it can sleep for but the mutex.
private func waitUntilAsleep(_ contender: borrowing Atomic<Int32>) {
    while true {
        sched_yield()
        let thread = contender.load(ordering: .acquiring)
        guard thread != 0 else { continue }
        guard let stat = fopen("/proc/self/task/\(thread)/stat", "r") else { return }
        var line = [UInt8](repeating: 0, count: 512)
        let length = fread(&line, 1, line.count, stat)
        fclose(stat)
        // The state comes after the name, which is in parentheses.
        let end = line.prefix(length).lastIndex(of: UInt8(ascii: ")")) ?? 0
        if end + 2 < length && line[end + 2] == UInt8(ascii: "S") { return }
    }
}
