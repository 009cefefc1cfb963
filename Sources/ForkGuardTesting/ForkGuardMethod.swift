internal import ForkGuard

/// The fork under test.
func forkByForkGuard(onCallingThread: Bool, _ body: @escaping @Sendable () -> Int32) throws -> Int32 {
    try ForkGuard.fork(options: onCallingThread ? [.onCallingThread] : [], body).pid
}
