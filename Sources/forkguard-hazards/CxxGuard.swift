/// What a C++ compiler makes of `static X x = …` in a function (Itanium C++ ABI, 3.3.3). The calls are imports of this executable, as in a C++
/// program.
struct CxxGuard: Sendable {
    /// Runs the initialiser of this variable if nobody has.
    func make(_ variable: UnsafeMutablePointer<UInt64>, _ body: () -> Void) {
        if acquire(variable) == 0 { return }
        body()
        release(variable)
    }

    /// The first byte says it, in the ABI of all platforms.
    func isMade(_ variable: UnsafeMutablePointer<UInt64>) -> Bool { variable.pointee & 0xff == 1 }
}

@_silgen_name("__cxa_guard_acquire")
private func acquire(_ guardVariable: UnsafeMutableRawPointer) -> Int32

@_silgen_name("__cxa_guard_release")
private func release(_ guardVariable: UnsafeMutableRawPointer)
