# What `cmake --install` copies: libraries, public headers and the CMake package that find_package(qvlm CONFIG) reads;
# with the executable also its recipes. Each library is an export of its own, so that an application of one needs
# nothing that the others link.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/qvlm")
set(QVLM_INSTALLED_LIBRARIES kernels base)
if(QVLM_WITH_TORCH)
  list(APPEND QVLM_INSTALLED_LIBRARIES qvlm)
  install(FILES third_party/FindLibTorch.cmake DESTINATION "${package_dir}")
endif()

foreach(library IN LISTS QVLM_INSTALLED_LIBRARIES)
  set(target qvlm_${library})
  if(library STREQUAL "qvlm")
    set(target qvlm)
  endif()
  install(TARGETS ${target} EXPORT qvlm-${library} FILE_SET HEADERS)
  install(EXPORT qvlm-${library} NAMESPACE qvlm:: DESTINATION "${package_dir}")
endforeach()

configure_package_config_file(cmake/qvlmConfig.cmake.in "${PROJECT_BINARY_DIR}/qvlmConfig.cmake"
  INSTALL_DESTINATION "${package_dir}" NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/qvlmConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/qvlmConfig.cmake" "${PROJECT_BINARY_DIR}/qvlmConfigVersion.cmake"
        DESTINATION "${package_dir}")
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}")

if(TARGET qvlm_cli)
  # Not INSTALL_RPATH_USE_LINK_PATH: that leaves out folders below the sources, such as .venv.
  set_target_properties(qvlm_cli PROPERTIES INSTALL_RPATH "${LibTorch_ROOT_DIR}/lib")
  install(TARGETS qvlm_cli)
  install(DIRECTORY configs/recipes DESTINATION "${CMAKE_INSTALL_DATADIR}/qvlm")
endif()
