import Glibc

@_silgen_name("syscall")
private func systemCall(_ number: Int, _ first: Int, _ second: Int, _ third: UnsafeRawPointer?, _ fourth: Int, _ fifth: Int) -> Int

#if arch(x86_64)
    private let calls = (clone: UInt32(56), prctl: 157, seccomp: 317)
#else
    private let calls = (clone: UInt32(220), prctl: 167, seccomp: 277)
#endif

/// Lets every fork of the calling thread fail with EAGAIN from here on, as a process limit does (which does not bind root): by seccomp(2).
func denyForks() {
    struct Instruction {
        var code: UInt16, ifTrue: UInt8 = 0, ifFalse: UInt8 = 0, value: UInt32
    }
    struct Program {
        var count: UInt16, instructions: UnsafePointer<Instruction>
    }
    let filter = [
        Instruction(code: 0x20, value: 0),  // load the call's number
        Instruction(code: 0x15, ifFalse: 1, value: calls.clone),  // clone?
        Instruction(code: 0x06, value: 0x0005_0000 | UInt32(EAGAIN)),  // refused
        Instruction(code: 0x06, value: 0x7fff_0000),  // allowed
    ]
    let noNewPrivileges = 38, setFilter = 1
    filter.withUnsafeBufferPointer { filter in
        var program = Program(count: UInt16(filter.count), instructions: filter.baseAddress!)
        guard systemCall(calls.prctl, noNewPrivileges, 1, nil, 0, 0) == 0, systemCall(calls.seccomp, setFilter, 0, &program, 0, 0) == 0
        else {
            fatalError("seccomp(2) is refused: errno \(errno)")
        }
    }
}
