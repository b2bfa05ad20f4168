// Package apply turns the objects that a stack wants into a Plan, and a Plan
// into a changed cluster.
//
// Its promises:
//
//   - The server is the oracle. Every object that may differ is dry-run applied
//     before the first one is applied, and every object that fails is reported.
//   - An object whose desired hash and live fingerprint are both unchanged costs
//     no request at all.
//   - What a stack owns is an ApplySet (KEP-3659) with the Stack object as its
//     parent. The parent's group-kinds are widened before an apply and narrowed
//     after a confirmed delete, so that a crash at any point orphans nothing.
//   - Deleting is the exception: kept kinds, a budget, hand-over to another
//     stack, and a fresh look at each object right before it goes.
package apply
