import Dispatch

private actor Sum {
    private var value = 0
    func add(_ number: Int) { value += number }
    var total: Int { value }
}

/// A group of tasks and an actor, a sleep, and blocks on queues of Dispatch's; waits for all of it. True when the result is right.
@inline(never)
func useTasks() -> Bool {
    let done = DispatchSemaphore(value: 0)
    let sum = Sum()
    Task.detached {
        await withTaskGroup(of: Void.self) { group in for number in 1...8 { group.addTask { await sum.add(number) } } }
        try? await Task.sleep(for: .microseconds(100))
        if await sum.total == 36 { done.signal() }
    }
    done.wait()
    let group = DispatchGroup()
    for _ in 0..<4 { DispatchQueue.global().async(group: group) { done.signal() } }
    group.wait()
    return (0..<4).allSatisfy { _ in done.wait(timeout: .now()) == .success }
}
