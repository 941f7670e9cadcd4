import CMessages
import IPAMAPI
import IPAMModel
import Ledger
import RPC

/// The service holdfast.ipam.v1.IPAM: decode, hand to the writer or read, encode.
extension Writer {
    func ipamService(_ gate: Gate) -> RPCService {
        var service = unsafe RPCService(cmessages_holdfast_ipam_v1_ipam())
        // Changes answer from the thread that leads the writer once their batch is durable.
        unsafe service.unary(
            admit: gate.admit([.agent, .operator]),
            decode: { (message: UnsafePointer<Wire.AllocateRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe AllocateRequest(message.pointee) }
            },
            encode: { (answer: Answer, arena) in
                let message = unsafe arena.make(Wire.AllocateResponse.self)
                if case .binding(let binding?, let created) = answer {
                    unsafe message.pointee.binding = binding.wire(in: arena)
                    unsafe message.pointee.created = created ? 1 : 0
                }
                return unsafe message
            },
            complete: { request, caller, reply in
                self.submit(.allocate(request), by: caller) { reply.complete($0) }
            })
        unsafe service.unary(
            admit: gate.admit([.agent, .operator]),
            decode: { (message: UnsafePointer<Wire.ReleaseRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe ReleaseRequest(message.pointee) }
            },
            encode: { (answer: Answer, arena) in
                let message = unsafe arena.make(Wire.ReleaseResponse.self)
                if case .binding(let binding?, _) = answer { unsafe message.pointee.binding = binding.wire(in: arena) }
                return unsafe message
            },
            complete: { request, caller, reply in
                self.submit(.release(request), by: caller) { reply.complete($0, mayBeFreed: true) }
            })
        unsafe service.unary(
            admit: gate.admit([.agent, .operator]),
            decode: { (message: UnsafePointer<Wire.TransferRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe TransferRequest(message.pointee) }
            },
            encode: { (answer: Answer, arena) in
                let message = unsafe arena.make(Wire.TransferResponse.self)
                if case .binding(let binding?, _) = answer { unsafe message.pointee.binding = binding.wire(in: arena) }
                return unsafe message
            },
            complete: { request, caller, reply in
                self.submit(.transfer(request), by: caller) { reply.complete($0) }
            })
        // Reads answer at once from the last committed state.
        unsafe service.unary(
            admit: gate.admit(.any),
            decode: { (message: UnsafePointer<Wire.GetBindingRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe BindingQuery(message.pointee) }
            },
            encode: { (answer: DescribedBinding, arena) in unsafe answer.wire(in: arena) },
            complete: { query, _, reply in
                reply.complete { () throws(IPAMError) in try self.binding(query) }
            })
        unsafe service.unary(
            admit: gate.admit(.any),
            decode: { (message: UnsafePointer<Wire.ListBindingsRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe BindingListing(message.pointee) }
            },
            encode: { (page: BindingPage, arena) in unsafe page.wire(in: arena) },
            complete: { listing, _, reply in
                // Where few of very many bindings match, that takes its time.
                PollingThread.blocking { reply.complete { () throws(IPAMError) in try self.page(listing) } }
            })
        unsafe service.unary(
            admit: gate.admit(.any),
            decode: { (message: UnsafePointer<Wire.ListHistoryRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe HistoryListing(message.pointee) }
            },
            encode: { (page: HistoryPage, arena) in unsafe page.wire(in: arena) },
            complete: { listing, _, reply in
                self.history(listing) { page in reply.complete { () throws(IPAMError) in try page.get() } }
            })
        unsafe service.serverStreaming(
            admit: gate.admit(.any),
            decode: { (message: UnsafePointer<Wire.WatchBindingsRequest>) throws(RPCStatus) in
                try status { () throws(IPAMError) in try unsafe BindingFilter(message.pointee) }
            },
            encode: { (event: BindingEvent, arena) in unsafe event.wire(in: arena) },
            handle: { (filter, caller, responses) async throws(RPCStatus) in
                var watch = try status { () throws(IPAMError) in
                    try BindingWatch(filter, by: caller, writer: self) { responses.abort($0.status) }
                }
                try await watch.run(failure: \.status) { event async throws(RPCStatus) in
                    try await responses.send(event)
                }
            })
        return service
    }
}

extension Reply where Output == Answer {
    /// Answers with what a change of a binding came to: as the answer is, for the binding in it is large.
    fileprivate func complete(_ result: Result<Answer, IPAMError>, mayBeFreed: Bool = false) {
        switch result {
        case .success(let answer):
            switch answer {
            case .binding(.some, created: _): succeed(answer)
            case .binding(nil, created: _) where mayBeFreed: succeed(answer)
            default: fail(RPCStatus(.internalError, "a change of a binding that came to none"))
            }
        case .failure(let error): fail(error.status)
        }
    }
}
