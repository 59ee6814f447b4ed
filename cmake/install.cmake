# Headers, libraries, the command and its man page, pkg-config and CMake package files, the recipe's schema.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS requant requant_static RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
set_target_properties(requant_shared PROPERTIES EXPORT_NAME requant)
install(TARGETS requant_shared EXPORT requantTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT requantTargets NAMESPACE requant:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/requant)
configure_package_config_file(cmake/requantConfig.cmake.in requantConfig.cmake INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/requant)
write_basic_package_version_file(requantConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/requantConfig.cmake ${CMAKE_BINARY_DIR}/requantConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/requant)

install(DIRECTORY include/requant DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${CMAKE_BINARY_DIR}/requant.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES src/algo/recipe.schema.json DESTINATION ${CMAKE_INSTALL_DATADIR}/requant)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# requant.pc names the prefix of the moment of installing, so that --prefix is honoured
# What a program linked with librequant.a needs beside it: the shared libraries we use, not what those use in turn, whose
# development packages need not be there.
set(RQ_PC_LIBS "")
foreach(module ${RQ_PKG_MODULES})
  foreach(library ${DEP_${module}_LIBRARIES})
    string(APPEND RQ_PC_LIBS "-l${library} ")
  endforeach()
endforeach()
string(APPEND RQ_PC_LIBS "-ldnnl -lsleef -lgomp -lm -pthread")
install(CODE "
  set(PROJECT_VERSION ${PROJECT_VERSION})
  set(PROJECT_DESCRIPTION \"${PROJECT_DESCRIPTION}\")
  set(CMAKE_INSTALL_LIBDIR ${CMAKE_INSTALL_LIBDIR})
  set(CMAKE_INSTALL_INCLUDEDIR ${CMAKE_INSTALL_INCLUDEDIR})
  set(RQ_PC_LIBS \"${RQ_PC_LIBS}\")
  get_filename_component(CMAKE_INSTALL_PREFIX \"\${CMAKE_INSTALL_PREFIX}\" ABSOLUTE)
  configure_file(${CMAKE_SOURCE_DIR}/cmake/requant.pc.in ${CMAKE_BINARY_DIR}/requant.pc @ONLY)
")
install(FILES ${CMAKE_BINARY_DIR}/requant.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
