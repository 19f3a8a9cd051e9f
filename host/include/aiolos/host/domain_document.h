// SPDX-License-Identifier: Apache-2.0
// A guest's XML as a document: what is read of it, and what is changed in it, without a guest that runs. Pure.
#pragma once

#include <map>
#include <string>

#include "aiolos/core/queue_plan.h"
#include "aiolos/core/result.h"

namespace aiolos {

/// Of a `<domain>` document: vCPUs, `<iothreadids>`, `<defaultiothread>`, SCSI controllers. An empty guest of a
/// document that is none.
DomainEngines engines_of(const std::string& domain_xml);

/// The document with other disks in the places of its own: libvirt compares those of a migrating guest in their order.
/// @param disks `<disk>` documents by target; an empty one takes the disk out. A target that the document does not have
/// changes nothing. @return ErrorKind::hypervisor if one of the documents is none.
Result<std::string> replace_disks(const std::string& domain_xml, const std::map<std::string, std::string>& disks);

}  // namespace aiolos
