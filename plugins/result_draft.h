// SPDX-License-Identifier: Apache-2.0
// A call's result while a plugin puts it together.
#pragma once

#include <optional>
#include <string_view>
#include <variant>

#include "aiolos/core/aio_policy.h"
#include "aiolos/core/attachment.h"
#include "aiolos/core/json.h"
#include "aiolos/core/result.h"

namespace aiolos {

/// What the host wants from a slot, and so what a draft is likely to become.
enum class Wanted { json, attachment, advice };

/// Where put_* and publish go. A disk's XML costs a `describe` and an `aio_mode`, so the members that their results
/// consist of go straight into an Attachment or AioAdvice. Anything else, and anything odd, turns the draft into JSON
/// first: its readers in core know every rule and word every error, and nothing of that is said twice here.
class ResultDraft {
 public:
  explicit ResultDraft(Wanted wanted = Wanted::json);

  /// Sets a member that the wanted result has. @return false, nothing done, for one that `put` has to see to.
  bool put_expected(std::string_view pointer, std::string_view text);
  /// Sets a member. @param pointer of any shape; text is UTF-8. @return an error of kind bug if it cannot be set.
  Result<void> put(std::string_view pointer, std::string_view text);
  Result<void> put(std::string_view pointer, bool truth);
  Result<void> put(std::string_view pointer, Json value);

  /// Whether nothing was ever put.
  bool empty() const { return empty_; }
  /// The result as JSON, whatever it was put together as.
  const Json& json();

  /// The result as what the host wanted; an error of core's readers if it is not that.
  Result<Attachment> attachment();
  Result<AioAdvice> advice();

 private:
  struct AttachmentDraft {
    Attachment value;
    bool has_type = false;

    bool put(std::string_view pointer, std::string_view text);
    bool put_host(std::string_view pointer, std::string_view text);
    bool put_auth(std::string_view pointer, std::string_view text);
    bool complete() const;
    Json json() const;
  };
  struct AdviceDraft {
    AdviceDraft() { value.permitted.clear(); }
    AioAdvice value;
    bool because_due = false;  // the last of `rejected` has no reason yet

    bool put(std::string_view pointer, std::string_view text);
    bool complete() const;
    Json json() const;
  };

  std::variant<Json, AttachmentDraft, AdviceDraft> draft_;
  bool empty_ = true;
};

/// The member of a result at a JSON pointer, made where it is missing: an array where the next token is a number or
/// "-", an object otherwise. @return an error of kind bug for a pointer that cannot be; the result may then have grown
/// empty members on the way.
Result<Json*> result_member(Json& result, std::string_view pointer);

}  // namespace aiolos
