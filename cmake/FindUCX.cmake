# Finds UCX. Its own CMake package is not in every release of Debian and Ubuntu. Gives the imported targets UCX::ucp and UCX::ucs.
find_path(UCX_INCLUDE_DIR ucp/api/ucp.h)
find_library(UCP_LIBRARY ucp)
find_library(UCS_LIBRARY ucs)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(UCX REQUIRED_VARS UCP_LIBRARY UCS_LIBRARY UCX_INCLUDE_DIR)
if(UCX_FOUND AND NOT TARGET UCX::ucp)
  add_library(UCX::ucs UNKNOWN IMPORTED)
  set_target_properties(UCX::ucs PROPERTIES IMPORTED_LOCATION ${UCS_LIBRARY}
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${UCX_INCLUDE_DIR} INTERFACE_INCLUDE_DIRECTORIES ${UCX_INCLUDE_DIR})
  add_library(UCX::ucp UNKNOWN IMPORTED)
  set_target_properties(UCX::ucp PROPERTIES IMPORTED_LOCATION ${UCP_LIBRARY} INTERFACE_LINK_LIBRARIES UCX::ucs
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${UCX_INCLUDE_DIR} INTERFACE_INCLUDE_DIRECTORIES ${UCX_INCLUDE_DIR})
endif()
mark_as_advanced(UCX_INCLUDE_DIR UCP_LIBRARY UCS_LIBRARY)
