internal import Glibc
internal import Synchronization

/// Threads that do the same thing over and over. They are the process's that made them: a child has none of them.
final class Refreshers: Sendable {
    private final class Work: Sendable {
        let isOver = Atomic(false)
        let rounds = Atomic(0)
        let pause: UInt32
        let body: @Sendable (Int) -> Void

        init(pause: UInt32, _ body: @escaping @Sendable (Int) -> Void) {
            self.pause = pause
            self.body = body
        }

        func run() {
            while !isOver.load(ordering: .relaxed) {
                body(rounds.add(1, ordering: .relaxed).newValue)
                usleep(pause)
            }
        }
    }

    private let work: Work
    private let threads: [pthread_t]

    /// `body` is told a number that no other call of it gets. The pause is in microseconds.
    init(_ count: Int, pause: UInt32, _ body: @escaping @Sendable (_ round: Int) -> Void) {
        let work = Work(pause: pause, body)
        self.work = work
        threads = (0..<count).map { _ in
            var thread = pthread_t()
            let failure = pthread_create(
                &thread, nil,
                { context in
                    Unmanaged<Work>.fromOpaque(context.unsafelyUnwrapped).takeRetainedValue().run()
                    return nil
                }, Unmanaged.passRetained(work).toOpaque())
            guard failure == 0 else { fatalError("pthread_create: \(String(cString: strerror(failure)))") }
            return thread
        }
    }

    /// Returns when they have ended. Once.
    func stop() {
        work.isOver.store(true, ordering: .relaxed)
        for thread in threads { pthread_join(thread, nil) }
    }
}
