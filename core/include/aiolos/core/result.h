// SPDX-License-Identifier: Apache-2.0
// Errors as values: what failed, with the value that was wrong, and what to do next.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace aiolos {

/// Who can mend an error, and so what a caller does with it. The command line's exit status follows from it.
enum class ErrorKind {
  bad_input,      ///< The caller's JSON, XML or arguments are wrong. Exit status 2.
  configuration,  ///< A setting of this host is wrong: file, key or missing package. Exit status 2.
  refused,        ///< Asked for something that policy forbids. Exit status 3.
  retry,          ///< May succeed later, unchanged: busy, timed out. Exit status 4.
  storage,        ///< The storage failed or is not what the volume says it is. Exit status 1.
  hypervisor,     ///< libvirt or QEMU refused or failed. Exit status 1.
  bug,            ///< Aiolos or a plugin broke its own contract. Exit status 1.
};

std::string_view to_string(ErrorKind kind);

/// The kind that `name` spells (`to_string`'s inverse); ErrorKind::bug for a name that is none.
ErrorKind error_kind_from_string(std::string_view name);

/// The documented exit status of a command that ends with an error of this kind.
int exit_status(ErrorKind kind);

/// An error for people and programs. Plain data; copies freely between threads.
struct Error {
  ErrorKind kind = ErrorKind::bug;
  std::string message;  ///< What failed, naming the thing and its value. One line, no trailing full stop needed.
  std::string next;     ///< What to do about it; never empty when it reaches a user.
  std::string where;    ///< JSON pointer, `file:line:column` or empty. Shown before the message.

  bool operator==(const Error&) const = default;
};

/// `where: message` as one line.
std::string describe(const Error& error);

template <typename T>
using Result = tl::expected<T, Error>;

/// Shorthand for returning an error from a function that gives a Result.
[[gnu::cold, gnu::noinline]] inline tl::unexpected<Error> fail(ErrorKind kind, std::string message,
                                                               std::string next = {}, std::string where = {}) {
  return tl::unexpected<Error>(Error{kind, std::move(message), std::move(next), std::move(where)});
}

}  // namespace aiolos
