import Dispatch

/// The signals as they come, instead of what they would do otherwise; also those that come before somebody listens.
func signals(_ numbers: Int32...) -> AsyncStream<Int32> {
    let (stream, continuation) = AsyncStream<Int32>.makeStream()
    // As in readings(of:as:_:).
    nonisolated(unsafe) let sources = numbers.map { number in
        let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
        source.setEventHandler { continuation.yield(number) }
        source.activate()
        return source
    }
    continuation.onTermination = { _ in for source in sources { source.cancel() } }
    return stream
}
