// SPDX-License-Identifier: Apache-2.0
// libvirt's typed parameters, freed at the end.
#pragma once

#include <cstdint>
#include <string>

#include "libvirt_api.h"

namespace aiolos {

class TypedParameters {
 public:
  explicit TypedParameters(const LibvirtApi& api) : api_(api) {}
  TypedParameters(const TypedParameters&) = delete;
  TypedParameters& operator=(const TypedParameters&) = delete;
  ~TypedParameters() { api_.virTypedParamsFree(parameters_, size_); }

  // False with libvirt's last error set.
  bool add(const std::string& name, std::uint64_t value) {
    return api_.virTypedParamsAddULLong(&parameters_, &size_, &capacity_, name.c_str(), value) == 0;
  }
  bool add(const std::string& name, int value) {
    return api_.virTypedParamsAddInt(&parameters_, &size_, &capacity_, name.c_str(), value) == 0;
  }
  bool add(const std::string& name, const std::string& value) {
    return api_.virTypedParamsAddString(&parameters_, &size_, &capacity_, name.c_str(), value.c_str()) == 0;
  }

  virTypedParameterPtr data() const { return parameters_; }
  int size() const { return size_; }

 private:
  const LibvirtApi& api_;
  virTypedParameterPtr parameters_ = nullptr;
  int size_ = 0;
  int capacity_ = 0;
};

}  // namespace aiolos
